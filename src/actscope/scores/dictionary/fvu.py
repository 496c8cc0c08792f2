"""Fraction of variance unexplained."""

from collections.abc import Iterable

import torch

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.scores._parts.census import Census
from actscope.scores._parts.totals import totals_interval

__all__ = ["fvu"]


def fvu(
    dictionary: Dictionary,
    store: Store,
    *,
    documents: Iterable[int] | None = None,
    census: Census | None = None,
    seed: int = 0,
) -> Score:
    """The share of the written ports' variance that the reconstruction misses: 0 is perfect, 1 is no better than the mean.

    Squared error summed over rows and coordinates, divided by the squared distance from the mean over the same rows
    (never from zero, which would flatter activations with a large mean). Several ports are pooled; parts hold each.
    Control: the mean in place of the reconstruction, 1. Interval: bootstrap over documents.
    documents: only these. census: the pass, when several measures share one.
    Raises BadInput for rows without variance.
    """
    census = Census.of(dictionary, store, documents) if census is None else census
    error, spread = census.error.sum(0), census.spread.sum(0)
    if not bool((spread > 0).all()):
        still = [str(port) for port, value in zip(census.ports, spread.tolist(), strict=True) if value <= 0]
        raise BadInput(f"{', '.join(still)} is the same on every row scored, so it has no variance to explain; give more rows.")
    sums = torch.stack([census.error.sum(1), census.spread.sum(1)], dim=1)
    return Score(
        name="fvu",
        definition="fvu@1",
        value=float(error.sum() / spread.sum()),
        unit="share of variance",
        better="lower",
        n=int(census.rows.sum()),
        interval=totals_interval(sums, lambda total: total[:, 0] / total[:, 1], seed=seed),
        control=1.0,
        parts={f"fvu:{port}": float(error[i] / spread[i]) for i, port in enumerate(census.ports)},
    )
