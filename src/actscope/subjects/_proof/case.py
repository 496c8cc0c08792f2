"""A subject on trial: its inputs, its model where there is one, and how far two tensors lie apart.

Letters: b batch, t tokens.
"""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from actscope.core.errors import BadInput
from actscope.core.inputs import Inputs
from actscope.core.site import HEAD_KINDS, MAP_KINDS, Site
from actscope.core.subject import Subject

LOGITS = Site("logits")
NEAR = 1e-5  # relative, in float32


class Measure(NamedTuple):
    """How far something found at `sites` lies from what it must be, and how far it may: 0 where every bit counts. why: what is
    wrong if it lies further."""

    check: str
    sites: tuple[Site, ...]
    apart: float
    bar: float
    why: str

    @property
    def held(self) -> bool:
        return self.apart <= self.bar


@dataclass(frozen=True)
class Case:
    """ids: Int[b t], full rows without padding. model: the torch module inside, or None where the subject has none.
    check: the name of the one that is running. measures: what checks have found so far. strict: the first that does not hold
    raises AssertionError."""

    subject: Subject
    ids: Tensor
    model: Any = None
    strict: bool = True
    check: str = ""
    measures: list[Measure] = field(default_factory=list)

    def near(self, found: Tensor, expected: Tensor, *sites: Site, why: str = "") -> None:
        """Found and expected lie within 1e-5 of each other, relative."""
        fits = found.shape == expected.shape
        self._note(far(found, expected) if fits else math.inf, NEAR, sites, why or "it is not what it follows from")

    def same(self, found: Tensor, expected: Tensor, *sites: Site, why: str = "") -> None:
        """Found and expected are the same to the last bit."""
        apart = 0.0 if torch.equal(found, expected) else math.inf
        if apart and found.shape == expected.shape:
            apart = max(far(found, expected), 1e-30)
        self._note(apart, 0.0, sites, why or "it differs in some bits")

    def true(self, held: bool, *sites: Site, why: str) -> None:
        self._note(0.0 if held else math.inf, 0.0, sites, why)

    def _note(self, apart: float, bar: float, sites: tuple[Site, ...], why: str) -> None:
        one = Measure(self.check, sites, math.inf if math.isnan(apart) else apart, bar, why)
        self.measures.append(one)
        assert one.held or not self.strict, f"{', '.join(map(str, sites))}: {why} (apart {one.apart:.1e}, at most {bar:.0e})"

    def site(self, kind: str, layer: int) -> Tensor:
        """One site's value in a run of its own."""
        return self.read(Site(kind, layer))[Site(kind, layer)]

    def read(self, *sites: str | Site) -> dict[Site, Tensor]:
        return dict(self.subject.run(self.ids, read=sites).acts)

    @property
    def uncached(self) -> dict[str, bool]:
        """What makes a model of transformers run without a cache, which lays keys out otherwise and so changes last bits."""
        return {"use_cache": False} if hasattr(self.model, "config") else {}

    @property
    def layers(self) -> list[int]:
        return sorted({site.layer for site in self.subject.order if site.layer is not None})

    def having(self, *kinds: str) -> list[int]:
        """The layers that have all these kinds."""
        return [layer for layer in self.layers if all(Site(kind, layer) in self.subject.sites for kind in kinds)]

    def has(self, *kinds: str) -> bool:
        """Whether every layer has all these kinds."""
        return bool(self.layers) and self.having(*kinds) == self.layers

    def weight(self, site: Site, name: str = "weight") -> Tensor | None:
        return self.subject.weights().get(f"{self.subject.sites[site].module}.{name}")


def make_case(subject: Subject, ids: Tensor | None, seed: int) -> Case:
    """Random ids where none are given: 3 rows of at most 11 tokens. Raises BadInput where the vocabulary is not known."""
    if ids is None:
        if LOGITS not in subject.sites:
            raise BadInput(f"{subject.name} has no site logits to tell its vocabulary; give check_subject ids=.")
        length = min(11, subject.context - 2)
        ids = torch.randint(0, subject.sites[LOGITS].width, (3, length), generator=torch.Generator().manual_seed(seed))
    return Case(subject, ids, getattr(subject, "model", None))


def far(found: Tensor, expected: Tensor) -> float:
    """The largest distance of two rows (last axis), relative to the root-mean-square norm of the expected rows."""
    size = expected.norm(dim=-1).pow(2).mean().sqrt().clamp(min=1e-30)
    return float((found - expected).norm(dim=-1).max() / size)


def real(value: Tensor, site: Site, mask: Tensor) -> list[Tensor]:
    """The value at the real tokens of each row, padding cut out of every axis that counts tokens."""
    rows = []
    for row, kept in zip(value, mask, strict=True):
        rows.append(row[:, kept][:, :, kept] if site.kind in MAP_KINDS else row[kept])
    return rows


def parts(case: Case) -> list[Site]:
    """Two heads of each kind that has heads, in the middle layer."""
    layer = case.layers[len(case.layers) // 2]
    found = []
    for kind in (*HEAD_KINDS, *MAP_KINDS):
        if Site(kind, layer) in case.subject.sites:
            heads = case.subject.sites[Site(kind, layer)].shape[1 if kind in MAP_KINDS else 2]
            found += [Site(kind, layer, part) for part in {0, int(heads) - 1}]
    return found


def padded(case: Case, side: str) -> Inputs:
    """The case's rows, each cut to another length and padded on one side with an arbitrary token."""
    b, t = case.ids.shape
    keep = torch.tensor([t - min(2 * row, t - 3) for row in range(b)])
    place = torch.arange(t).expand(b, t)
    ids = torch.full_like(case.ids, 7 % int(case.ids.max() + 1))
    mask = place < keep[:, None] if side == "right" else place >= (t - keep)[:, None]
    for row in range(b):
        ids[row, mask[row]] = case.ids[row, : keep[row]]
    return Inputs(ids=ids, mask=mask)
