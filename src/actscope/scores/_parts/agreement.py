"""How well one number a row tells another: statistics over resampled documents, and the score made of them.

A statistic is taken under weights, one for every document and resample, so that value, interval and controls are the same
formula. Letters: n rows, g documents, r resamples, q sums, v different values.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from actscope.core.score import Score
from actscope.scores._parts.bootstrap import interval

_CELLS = 1 << 23  # numbers held at once


@dataclass(frozen=True)
class Pairs:
    """For each row, the number that is to tell, what is true (0 or 1, or an activation) and the document's number."""

    told: Float[Tensor, " n"]
    truth: Float[Tensor, " n"]
    document: Int[Tensor, " n"]

    def answered(self) -> "Pairs":
        """Without the rows that have no answer."""
        known = self.told.isfinite()
        return Pairs(self.told[known], self.truth[known], self.document[known])


Statistic = Callable[[Pairs, Float[Tensor, "r g"]], Float[Tensor, " r"]]


def balanced_accuracy(pairs: Pairs, weights: Float[Tensor, "r g"]) -> Float[Tensor, " r"]:
    """The mean of the share of true rows told above 0.5 and of the share of false rows told at most 0.5. Chance: 0.5."""
    yes, true = (pairs.told > 0.5).double(), pairs.truth.double()
    hits, active, quiet, silent = _totals([yes * true, true, (1 - yes) * (1 - true), 1 - true], pairs, weights)
    return 0.5 * (hits / active + quiet / silent)


def log_loss_saved(pairs: Pairs, weights: Float[Tensor, "r g"]) -> Float[Tensor, " r"]:
    """1 less the mean log loss of the two classes, over that of saying 1/2. Chance: at most 0; a perfect judge: 1."""
    told, true = pairs.told.double(), pairs.truth.double()
    sums = _totals([-told.log() * true, true, -(1 - told).log() * (1 - true), 1 - true], pairs, weights)
    return 1 - 0.5 * (sums[0] / sums[1] + sums[2] / sums[3]) / math.log(2)


def correlation(pairs: Pairs, weights: Float[Tensor, "r g"]) -> Float[Tensor, " r"]:
    """Pearson's, over all rows; 0 where one side does not vary, for then nothing is told."""
    x, y = pairs.told.double(), pairs.truth.double()
    n, sx, sy, sxx, syy, sxy = _totals([torch.ones_like(x), x, y, x * x, y * y, x * y], pairs, weights)
    spread = ((n * sxx - sx**2).clamp_min(0) * (n * syy - sy**2).clamp_min(0)).sqrt()
    flat = spread <= 1e-9 * (n * sxx * n * syy).sqrt().clamp_min(1e-30)
    return torch.where(flat, 0.0, (n * sxy - sx * sy) / spread.clamp_min(1e-30))


def auroc(pairs: Pairs, weights: Float[Tensor, "r g"]) -> Float[Tensor, " r"]:
    """How often a true row is told above a false one, ties counting one half. Chance: 0.5."""
    true, false = _by_value(pairs, weights)
    below = false.cumsum(1) - false
    return (true * (below + false / 2)).sum(1) / (true.sum(1) * false.sum(1))


def gini(pairs: Pairs, weights: Float[Tensor, "r g"]) -> Float[Tensor, " r"]:
    """2 AUROC - 1. Chance: 0."""
    return 2 * auroc(pairs, weights) - 1


def average_precision(pairs: Pairs, weights: Float[Tensor, "r g"]) -> Float[Tensor, " r"]:
    """Precision at each value from the largest down, weighted by the recall gained there. Chance: the share of true rows."""
    true, false = (side.flip(1) for side in _by_value(pairs, weights))
    found = true.cumsum(1)
    precision = found / (found + false.cumsum(1)).clamp_min(1e-30)
    return (true * precision).sum(1) / true.sum(1)


def agreement(
    name: str,
    statistic: Statistic,
    own: Pairs,
    others: Sequence[Pairs],
    *,
    unit: str,
    weights: Float[Tensor, "r g"],
    permutations: int,
    seed: int,
    parts: Mapping[str, float],
    version: int = 1,
) -> Score:
    """value: the statistic. control: the same with what is told permuted among the rows, mean over `permutations`.
    interval: over the resampled documents. parts: permuted_low, permuted_high; documents; and where other latents'
    explanations were asked, other: the mean of theirs, and over_other_low, over_other_high: the interval of value - other."""
    own = own.answered()
    resampled = over(statistic, own, weights)
    permuted = permuted_values(statistic, own, permutations, seed)
    found = dict(parts)
    answered = [one for other in others if len((one := other.answered()).told) and plain(statistic, one).isfinite()]
    if answered:
        found["other"] = float(torch.stack([plain(statistic, other) for other in answered]).mean())
        theirs = torch.stack([over(statistic, other, weights) for other in answered]).nanmean(0)
        found["over_other_low"], found["over_other_high"] = interval(resampled - theirs)
    found |= {
        "permuted_low": float(permuted.min()),
        "permuted_high": float(permuted.max()),
        "documents": float(len(own.document.unique())),
    }
    return Score(
        name=name, definition=f"{name}@{version}", value=float(plain(statistic, own)), unit=unit, better="higher",
        n=len(own.told), interval=interval(resampled), control=float(permuted.mean()), parts=found,
    )  # fmt: skip


def plain(statistic: Statistic, pairs: Pairs) -> Tensor:
    """The statistic of the rows as they are."""
    one = Pairs(pairs.told, pairs.truth, torch.zeros_like(pairs.document))
    return statistic(one, torch.ones(1, 1, dtype=torch.float64))[0]


def over(statistic: Statistic, pairs: Pairs, weights: Float[Tensor, "r g"]) -> Float[Tensor, " r"]:
    """The statistic in every resample of documents."""
    step = max(1, _CELLS // max(1, len(pairs.told)))
    return torch.cat([statistic(pairs, part) for part in weights.split(step)])


def permuted_values(statistic: Statistic, pairs: Pairs, times: int, seed: int) -> Float[Tensor, " times"]:
    """The statistic with what is told permuted among the rows."""
    generator = torch.Generator().manual_seed(seed)
    orders = torch.rand(times, len(pairs.told), generator=generator).argsort(1)
    return torch.stack([plain(statistic, Pairs(pairs.told[order], pairs.truth, pairs.document)) for order in orders])


def _totals(columns: Sequence[Tensor], pairs: Pairs, weights: Float[Tensor, "r g"]) -> Float[Tensor, "q r"]:
    """Each column's weighted sum over all rows."""
    sums = torch.zeros(weights.shape[1], len(columns), dtype=torch.float64)
    sums.index_add_(0, pairs.document, torch.stack(list(columns), 1).double())
    return (weights @ sums).T


def _by_value(pairs: Pairs, weights: Float[Tensor, "r g"]) -> tuple[Float[Tensor, "r v"], Float[Tensor, "r v"]]:
    """The weight of true and of false rows at each value told, ascending."""
    values, place = pairs.told.double().unique(return_inverse=True)
    weight = weights[:, pairs.document]
    true = torch.zeros(len(weights), len(values), dtype=torch.float64).index_add_(1, place, weight * pairs.truth.double())
    return true, torch.zeros_like(true).index_add_(1, place, weight * (1 - pairs.truth.double()))
