"""A subject on trial: its inputs, its model where there is one, and how far two tensors lie apart.

Letters: b batch, t tokens.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
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
    """inputs: full rows without padding. model: the torch module inside, or None where the subject has none. stack: the
    encoder or the decoder of a subject with both; a case is of the sites of one. check: the name of the one that is running.
    measures: what checks have found so far. strict: the first that does not hold raises AssertionError."""

    subject: Subject
    inputs: Inputs
    model: Any = None
    stack: str = ""
    only: frozenset[int] | None = None
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

    @property
    def ids(self) -> Tensor:
        assert self.inputs.ids is not None, "this case is one of text"
        return self.inputs.ids

    @property
    def rows(self) -> int:
        return len(self.inputs.ids if self.inputs.ids is not None else self.inputs.pixels)  # type: ignore[arg-type]

    def row(self, number: int, kept: int | None = None) -> Inputs:
        """One row by itself, cut to its first tokens."""
        one = Inputs(*(None if value is None else value[number : number + 1] for value in self.inputs))
        return one if kept is None or one.ids is None else one._replace(ids=one.ids[:, :kept])

    def at(self, kind: str, layer: int | None = None) -> Site:
        return Site(kind, layer, stack=self.stack)

    @property
    def order(self) -> list[Site]:
        """The sites of this stack, of some layers where only those are tried; what follows all stacks counts to the last."""
        last = stacks(self.subject)[-1]
        here = [site for site in self.subject.order if (site.stack or last) == (self.stack or last)]
        return [site for site in here if self.only is None or site.layer is None or site.layer in self.only]

    def site(self, kind: str, layer: int) -> Tensor:
        """One site's value in a run of its own."""
        return self.read(self.at(kind, layer))[self.at(kind, layer)]

    def read(self, *sites: str | Site) -> dict[Site, Tensor]:
        return dict(self.subject.run(self.inputs, read=sites).acts)

    @property
    def end(self) -> Site:
        """What a run comes to: the logits, or the last site of a subject without."""
        return LOGITS if LOGITS in self.subject.sites else self.subject.order[-1]

    def result(self, write: Sequence[Any] = (), inputs: Inputs | None = None) -> Tensor:
        """What stands at the end."""
        return self.subject.run(inputs or self.inputs, read=[self.end], write=write).acts[self.end]

    def native(self, model: Any, **more: Any) -> Any:
        """What the torch module itself makes of the inputs, without a cache, which lays keys out otherwise and so changes last
        bits."""
        config = getattr(model, "config", None)
        if config is None:
            return model(self.inputs.ids if self.inputs.ids is not None else self.inputs.pixels)
        named = {"input_ids": self.inputs.ids, "pixel_values": self.inputs.pixels, "decoder_input_ids": self.inputs.decoder}
        if getattr(config, "use_cache", None) is not None:
            more["use_cache"] = False
        return model(**{name: value for name, value in named.items() if value is not None}, **more)

    @property
    def causal(self) -> bool:
        """Whether a token of this stack sees none after it."""
        return self.subject.causal and self.stack != "encoder"

    @property
    def layers(self) -> list[int]:
        return sorted({site.layer for site in self.order if site.layer is not None})

    def having(self, *kinds: str) -> list[int]:
        """The layers that have all these kinds."""
        return [layer for layer in self.layers if all(self.at(kind, layer) in self.subject.sites for kind in kinds)]

    def has(self, *kinds: str) -> bool:
        """Whether every layer has all these kinds."""
        return bool(self.layers) and self.having(*kinds) == self.layers

    def weight(self, site: Site, name: str = "weight") -> Tensor | None:
        return self.subject.weights().get(f"{self.subject.sites[site].module}.{name}")


def stacks(subject: Subject) -> list[str]:
    """In the order of computation: one without a name, or encoder and decoder."""
    return list(dict.fromkeys(site.stack for site in subject.order if site.layer is not None)) or [""]


def staged(case: Case) -> list[Case]:
    """The case of each stack."""
    return [replace(case, stack=stack) for stack in stacks(case.subject)]


def make_case(subject: Subject, given: Tensor | Inputs | None, seed: int) -> Case:
    """Random inputs where none are given: 3 rows of at most 11 tokens, or 3 images. Raises BadInput where it is not known what
    the subject takes."""
    if given is None:
        given = _random(subject, torch.Generator().manual_seed(seed))
    inputs = given if isinstance(given, Inputs) else Inputs(ids=given)
    return Case(subject, inputs, getattr(subject, "model", None))


def _random(subject: Subject, draws: torch.Generator) -> Inputs:
    anatomy = getattr(subject, "anatomy", None)
    if (images := getattr(anatomy, "images", None)) is not None:
        return Inputs(pixels=torch.randn(3, images.channels, *images.size, generator=draws))
    embed = next((site for site in subject.order if site.kind == "embed"), LOGITS)
    table = subject.weights().get(f"{subject.sites[embed].module}.weight") if embed in subject.sites else None
    if table is None and LOGITS not in subject.sites:
        raise BadInput(f"{subject.name} has no embedding and no logits to tell its vocabulary; give ids=.")
    vocabulary = subject.sites[LOGITS].width if table is None else len(table)
    config = getattr(getattr(subject, "model", None), "config", None)
    padding = getattr(config, "pad_token_id", None)  # which some models treat by itself, wherever it stands

    def ids(length: int) -> Tensor:
        drawn = torch.randint(0, vocabulary, (3, length), generator=draws)
        return drawn if padding is None else torch.where(drawn == padding, (padding + 1) % vocabulary, drawn)

    start = getattr(anatomy, "start", None)
    decoder = None if start is None else torch.cat([torch.full((3, 1), start), ids(6)], dim=1)
    return Inputs(ids=ids(min(11, subject.context - 2)), decoder=decoder)


def far(found: Tensor, expected: Tensor) -> float:
    """The largest distance of two rows (last axis), relative to the root-mean-square norm of the expected rows."""
    size = expected.norm(dim=-1).pow(2).mean().sqrt().clamp(min=1e-30)
    return float((found - expected).norm(dim=-1).max() / size)


def real(value: Tensor, shape: Sequence[str | int], kept: Tensor) -> Tensor:
    """One row's value at its real tokens, padding cut out of every axis that counts tokens. shape: the site's, of all rows."""
    for axis, size in enumerate(shape[1:]):
        value = value.index_select(axis, kept.nonzero()[:, 0]) if size == "t" else value
    return value


def parts(case: Case) -> list[Site]:
    """Two heads of each kind that has heads, in the middle layer."""
    layer = case.layers[len(case.layers) // 2]
    found = []
    for site in (case.at(kind, layer) for kind in (*HEAD_KINDS, *MAP_KINDS)):
        if site in case.subject.sites:
            heads = case.subject.sites[site].shape[1 if site.kind in MAP_KINDS else 2]
            found += [replace(site, part=part) for part in {0, int(heads) - 1}]
    return found


def padded(case: Case, side: str) -> Inputs:
    """The case's rows, each cut to another length and padded on one side with an arbitrary token. Images have no padding."""
    if case.inputs.ids is None:
        return case.inputs._replace(mask=case.subject.prepare(case.inputs.pixels).mask)  # type: ignore[arg-type]
    b, t = case.ids.shape
    keep = torch.tensor([t - min(2 * row, t - 3) for row in range(b)])
    place = torch.arange(t).expand(b, t)
    ids = torch.full_like(case.ids, 7 % int(case.ids.max() + 1))
    mask = place < keep[:, None] if side == "right" else place >= (t - keep)[:, None]
    for row in range(b):
        ids[row, mask[row]] = case.ids[row, : keep[row]]
    return case.inputs._replace(ids=ids, mask=mask)
