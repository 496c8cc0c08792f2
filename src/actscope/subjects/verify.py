"""Whether every site of a model is what its name says, shown on the model itself."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from actscope.core.inputs import Inputs
from actscope.core.site import Site
from actscope.core.subject import Subject
from actscope.subjects._proof.case import Measure, make_case, staged
from actscope.subjects._proof.experts import EXPERTS
from actscope.subjects._proof.reading import READING

__all__ = ["verify"]


@dataclass(frozen=True)
class Verdict:
    """What was found of one site. `measures`: each thing that must hold of it, how far it is from holding (relative, or 0 and
    infinity where it is a matter of yes or no) and how far it may be. Without any the site is not shown to be right."""

    site: Site
    measures: tuple[Measure, ...]

    @property
    def holds(self) -> bool:
        return bool(self.measures) and all(measure.held for measure in self.measures)

    @property
    def apart(self) -> float:
        """The largest distance among what may differ in last bits."""
        return max((measure.apart for measure in self.measures if measure.bar > 0), default=0.0)

    @property
    def why(self) -> str:
        """What is wrong with it; "" where nothing is."""
        if not self.measures:
            return "nothing that must hold of it is known"
        return "; ".join(dict.fromkeys(measure.why for measure in self.measures if not measure.held))


def verify(
    subject: Subject, *, ids: Tensor | Inputs | None = None, layers: Iterable[int] | None = None, seed: int = 0
) -> Sequence[Verdict]:
    """A verdict for every site, in the model's order: reads equal plain hooks on the untouched model, its own eager attention
    and the algebra between sites; what is written is there, reaches the logits and reaches every path; padding and the other
    rows of a batch move nothing. A float32 model is expected: bars are 1e-5 relative.

    ids: Int[b t] with b >= 3 and t >= 8, or Inputs; random ones by default. layers: to try these and the last, no others.
    """
    last = max((site.layer for site in subject.order if site.layer is not None), default=0)
    only = None if layers is None else frozenset({*layers, last})
    case = replace(make_case(subject, ids, seed), strict=False, only=only)
    for check, one in ((check, one) for check in (*READING, *EXPERTS) for one in staged(case)):
        begun = len(case.measures)
        try:
            check(replace(one, check=check.__name__))
        except Exception as error:  # a site that is wrong can break anything that is computed with it
            sites = tuple(dict.fromkeys(site for one in case.measures[begun:] for site in one.sites)) or tuple(one.order)
            why = f"it could not be tried ({type(error).__name__}: {str(error).strip():.200})"
            case.measures.append(Measure(check.__name__, sites, math.inf, 0.0, why))
    tried = {site for one in staged(case) for site in one.order}
    found: dict[Site, list[Measure]] = {site: [] for site in subject.order if site in tried}
    for measure in case.measures:
        for site in dict.fromkeys(site.whole for site in measure.sites):
            found.setdefault(site, []).append(measure)
    return [Verdict(site, tuple(measures)) for site, measures in found.items()]
