"""A subject on trial: its inputs, its model where there is one, and how far two tensors lie apart.

Letters: b batch, t tokens.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from actscope.core.errors import BadInput
from actscope.core.inputs import Inputs
from actscope.core.site import HEAD_KINDS, MAP_KINDS, Site
from actscope.core.subject import Subject

LOGITS = Site("logits")
NEAR = 1e-5  # relative, in float32


@dataclass(frozen=True)
class Case:
    """ids: Int[b t], full rows without padding. model: the torch module inside, or None where the subject has none."""

    subject: Subject
    ids: Tensor
    model: Any = None

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

    def has(self, *kinds: str) -> bool:
        """Whether every layer has all these kinds."""
        return all(Site(kind, layer) in self.subject.sites for kind in kinds for layer in self.layers) and bool(self.layers)

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
