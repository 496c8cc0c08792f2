"""Latents that never fire."""

from collections.abc import Iterable

from actscope.core.dictionary import Dictionary
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.scores._parts.census import Census

__all__ = ["dead_share"]


def dead_share(
    dictionary: Dictionary,
    store: Store,
    *,
    documents: Iterable[int] | None = None,
    census: Census | None = None,
) -> Score:
    """The share of latents that are zero on every row scored; n says how many rows that was.

    A share over few rows counts rare latents as dead, so compare only shares over the same rows; there is no interval,
    because documents drawn again always lose latents. documents: only these. census: the pass, when measures share one.
    """
    census = Census.of(dictionary, store, documents) if census is None else census
    dead = int((~census.fired).sum())
    return Score(
        name="dead_share",
        definition="dead_share@1",
        value=dead / len(census.fired),
        unit="share of latents",
        better="lower",
        n=int(census.rows.sum()),
        parts={"dead": float(dead), "latents": float(len(census.fired))},
    )
