"""How well a shuffled pass over a store is mixed, measured against a full shuffle.

1. Read the pass, batch by batch, and look up where each row stands.
2. Count the documents of each batch. Of B rows drawn from all n without order, document i with n_i rows is met with
   probability 1 - C(n - n_i, B) / C(n, B) (Hurlbert 1971, "The nonconcept of species diversity"); their sum is what a full
   shuffle gives.
3. Rank the documents by their place in the corpus; correlate the ranks of consecutive rows: 0 in a full shuffle, 1 unshuffled.
4. Compare how much the batches' mean ranks differ with how much a full shuffle's do.

Letters: n rows, B rows a batch.
"""

from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Float, Int
from torch import Tensor

from actscope.core.errors import BadInput
from actscope.core.store import Store

__all__ = ["mixing"]


@dataclass(frozen=True)
class Mixing:
    """rows: read. size: rows a batch. documents, of_full: different documents a batch has on average, and in a full shuffle.
    neighbours: correlation of the ranks of consecutive rows' documents. drift: standard deviation of the batches' mean ranks
    over that of a full shuffle's."""

    rows: int
    size: int
    documents: float
    of_full: float
    neighbours: float
    drift: float

    @property
    def quality(self) -> float:
        """Documents a batch, of those in a full shuffle: 1 where nothing is lost."""
        return self.documents / self.of_full


def mixing(store: Store, *, size: int = 4096, seed: int = 0, batches: int | None = None) -> Mixing:
    """Measure one shuffled pass. size: rows a batch. batches: look at so many of the first only. Raises BadInput for a store
    with fewer than two batches of that size."""
    size = min(size, len(store) // 2)
    if size < 2:
        raise BadInput(f"The store has {len(store)} rows; expected two batches of at least 2 to say how they are mixed.")
    document = store.text[1][:, 0]
    numbers, counts = document.unique(return_counts=True)
    middle = (counts.cumsum(0) - (counts + 1) / 2).double()  # the mean rank of a document's rows
    narrowest = min(store.ports, key=lambda port: store.ports[port])
    some = islice(store.batches([narrowest], size, seed=seed), min(batches or len(store), len(store) // size))
    found = [batch.where[:, 0].contiguous() for batch in some]
    ranks = [middle[torch.searchsorted(numbers, one)] for one in found]
    means = torch.stack([one.mean() for one in ranks])
    return Mixing(
        rows=sum(map(len, found)),
        size=size,
        documents=sum(len(one.unique()) for one in found) / len(found),
        of_full=_met(counts, size),
        neighbours=_correlation(torch.cat(ranks)),
        drift=float((means - (len(store) - 1) / 2).square().mean().sqrt()) / _spread(middle, counts, size),
    )


def _met(counts: Int[Tensor, " m"], size: int) -> float:
    """Documents that so many rows drawn without order come from, on average."""
    n = int(counts.sum())
    each, times = counts.unique(return_counts=True)
    left = (n - each).double()
    missed = _log_choose(left, size) - _log_choose(torch.tensor(float(n), dtype=torch.double), size)
    return float((times * (1 - torch.where(left >= size, missed.exp(), 0.0))).sum())


def _log_choose(n: Float[Tensor, "..."], k: int) -> Float[Tensor, "..."]:
    return (
        torch.lgamma(n + 1) - torch.lgamma((n - k).clamp(min=0) + 1) - torch.lgamma(torch.tensor(k + 1.0, dtype=torch.double))
    )


def _correlation(ranks: Float[Tensor, " n"]) -> float:
    own = ranks - ranks.mean()
    total = float(own.square().sum())
    return float((own[1:] * own[:-1]).sum()) / total if total else 1.0


def _spread(middle: Float[Tensor, " m"], counts: Int[Tensor, " m"], size: int) -> float:
    """Standard deviation of the mean rank of so many rows drawn without order."""
    n = int(counts.sum())
    variance = float((counts * (middle - (n - 1) / 2).square()).sum()) / (n - 1)
    return (variance / size * (1 - size / n)) ** 0.5
