"""Active latents a row."""

from collections.abc import Iterable

import torch

from actscope.core.dictionary import Dictionary
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.scores._parts.census import Census
from actscope.scores._parts.totals import totals_interval

__all__ = ["l0"]


def l0(
    dictionary: Dictionary,
    store: Store,
    *,
    documents: Iterable[int] | None = None,
    census: Census | None = None,
    seed: int = 0,
) -> Score:
    """The mean number of latents that are not zero on a row.

    Interval: bootstrap over documents. documents: only these. census: the pass, when several measures share one.
    """
    census = Census.of(dictionary, store, documents) if census is None else census
    sums = torch.stack([census.active, census.rows], dim=1)
    return Score(
        name="l0",
        definition="l0@1",
        value=float(census.active.sum() / census.rows.sum()),
        unit="latents per row",
        better="neither",
        n=int(census.rows.sum()),
        interval=totals_interval(sums, lambda total: total[:, 0] / total[:, 1], seed=seed),
        parts={"latents": float(dictionary.n_latents)},
    )
