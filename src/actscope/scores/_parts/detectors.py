"""Which column, above which threshold, says best whether a label holds: one search for every dictionary.

Letters: n rows, m columns, l labels, c candidates, s signs and columns (2m), q thresholds.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from actscope.scores._parts.columns import Columns, Projected, blocks


@dataclass(frozen=True)
class Detector:
    """Says yes where sign * column >= threshold."""

    column: int
    sign: int
    threshold: float

    def says(self, values: Float[Tensor, " n"]) -> Bool[Tensor, " n"]:
        return self.sign * values >= self.threshold


def best_detectors(columns: Columns, truth: Bool[Tensor, "l n"], *, candidates: int) -> list[Detector]:
    """For each label, the column, sign and threshold with the highest F1 on these rows.

    1. Screen: each column, with both signs, is cut where it says yes on about n / 2**j rows, j = 0, 1, 2... A label is
       compared with the cuts nearest its own number of positives (one below, one at, one above): F1 by matrix products.
    2. The `candidates` columns with the highest of these are searched at every threshold.
    """
    best = torch.zeros(len(truth), 2 * columns.width)
    for start, block in blocks(columns):
        for sign in (1, -1):
            at = slice(start + (sign < 0) * columns.width, start + (sign < 0) * columns.width + len(block))
            best[:, at] = _screen(sign * block, truth)
    chosen = best.topk(min(candidates, best.shape[1]), dim=1).indices
    return [search(columns, row, holds) for row, holds in zip(chosen, truth, strict=True)]


def f1(hit: Tensor, said: Tensor, true: Tensor) -> Tensor:
    """2 TP / (said + true), 0 where both are 0. Elementwise."""
    return 2 * hit / (said + true).clamp(min=1)


def auroc(values: Float[Tensor, " n"], holds: Bool[Tensor, " n"]) -> float:
    """The probability that a row where the label holds is above one where it does not, ties counting one half."""
    positive, negative = values[holds], values[~holds].sort().values
    below = torch.searchsorted(negative, positive).double()
    upto = torch.searchsorted(negative, positive, right=True).double()
    return float((below + upto).mean() / 2 / len(negative))


def _screen(block: Float[Tensor, "c n"], truth: Bool[Tensor, "l n"]) -> Float[Tensor, "l c"]:
    """The best F1 of each label and column among the cuts near the label's number of positives."""
    n = block.shape[1]
    ordered = torch.from_numpy(np.sort(block.numpy(), axis=1))
    levels = range(math.ceil(math.log2(n)) + 1)
    counts = truth.sum(1)
    nearest = torch.log2(n / counts.clamp(min=1)).round()
    labels = truth.float()
    best = torch.zeros(len(truth), len(block))
    for level in levels:
        near = ((nearest - level).abs() <= 1).nonzero()[:, 0]
        if not len(near):
            continue
        yes = (block > _below(ordered, n >> level)[:, None]).float()
        hit = labels[near] @ yes.T
        best[near] = torch.maximum(best[near], f1(hit, yes.sum(1)[None], counts[near, None]))
    return best


def _below(ordered: Float[Tensor, "c n"], wanted: int) -> Float[Tensor, " c"]:
    """A cut such that at most `wanted` values are above it, or, where the largest value itself is that common, just
    the rows with that value."""
    n = ordered.shape[1]
    cut = ordered[:, max(0, n - 1 - max(wanted, 1))]
    return torch.where(cut < ordered[:, -1], cut, torch.nextafter(cut, torch.tensor(-math.inf)))


def search(columns: Columns | Projected, chosen: Int[Tensor, " c"], holds: Bool[Tensor, " n"]) -> Detector:
    """The best of the chosen columns at every threshold that matters: one a value of a positive row. It stands halfway
    to the next value below, which leaves documents not seen here the widest margin."""
    sign = torch.where(chosen < columns.width, 1, -1)
    values = columns.take(chosen % columns.width) * sign[:, None]
    ordered = torch.from_numpy(np.sort(values.numpy(), axis=1))
    at = values[:, holds].sort(dim=1).values  # say yes at or above
    n, true = values.shape[1], at.shape[1]
    said = n - torch.searchsorted(ordered, at)
    hit = true - torch.searchsorted(at, at)
    score = f1(hit.double(), said.double(), torch.tensor(true))
    line, place = divmod(int(score.argmax()), true)
    value = at[line, place]
    under = ordered[line][ordered[line] < value]
    middle = (value + under[-1]) / 2 if len(under) else value
    return Detector(int(chosen[line]) % columns.width, int(sign[line]), float(torch.where(middle < value, middle, value)))
