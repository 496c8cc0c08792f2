"""Intervals of ratios of totals, by drawing documents again.

Letters: g documents, q quantities, r resamples.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from actscope.scores._parts.bootstrap import by_document, interval, resample

_DRAWS = 1000
_CELLS = 1 << 24  # counts held at once


def document_sums(values: Float[Tensor, "n q"], documents: Int[Tensor, " n"]) -> Float[Tensor, "g q"]:
    """The sum of the values of every document, in float64."""
    return by_document(values, documents)[0]


def totals_interval(
    sums: Float[Tensor, "g q"], statistic: Callable[[Float[Tensor, "r q"]], Float[Tensor, " r"]], *, seed: int
) -> tuple[float, float] | None:
    """95% interval of a statistic of the totals over documents; None for a single document, which has no interval."""
    if len(sums) < 2:
        return None
    step = max(1, min(_DRAWS, _CELLS // len(sums)))
    parts = [
        resample(len(sums), draws=min(step, _DRAWS - start), seed=seed * _DRAWS + start) @ sums
        for start in range(0, _DRAWS, step)
    ]
    return interval(statistic(torch.cat(parts)))


def mean_of_ratios(total: Float[Tensor, "r q"]) -> Float[Tensor, " r"]:
    """The mean over l of each first column over the second of its pair; pairs whose second column is 0 are left out."""
    top, under = total.reshape(len(total), -1, 2).unbind(2)
    return torch.where(under > 0, top / under, torch.nan).nanmean(1)
