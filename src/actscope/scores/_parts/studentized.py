"""Intervals of a mean over documents that hold far out in the tails, where a correction over many features looks.

Letters: n documents, r resamples.
"""

import functools
import math
from dataclasses import dataclass
from statistics import NormalDist

import torch
from jaxtyping import Float, Int
from torch import Tensor

from actscope.scores._parts.bootstrap import by_document, resample

_FEWEST = 12  # documents below which no interval is given


@dataclass(frozen=True)
class Studentized:
    """A mean difference and its studentized bootstrap over documents (Efron and Tibshirani 1993, chapter 12).

    An interval reaches as far as the bootstrap's or Student's, whichever is wider at that end: the bootstrap knows the
    skew, Student's keeps few or heavy-tailed documents from making it too short.
    """

    mean: float
    error: float  # standard error of the mean
    pivots: Float[Tensor, " r"]  # sorted (mean* - mean) / error*
    n: int

    @property
    def p(self) -> float:
        """Two-sided p-value of no difference: the least level, from 2 / r on, whose interval leaves 0 out."""
        least, most = 2 / (len(self.pivots) + 1), 1.0
        if self._holds_zero(most):
            return 1.0
        if not self._holds_zero(least):
            return least
        for _ in range(30):
            middle = math.sqrt(least * most)
            least, most = (middle, most) if self._holds_zero(middle) else (least, middle)
        return most

    def interval(self, level: float) -> tuple[float, float]:
        """The two-sided interval that misses with probability `level`; infinite with fewer than 12 documents."""
        if self.n < _FEWEST:
            return -math.inf, math.inf
        r = len(self.pivots)
        cut = min(max(int(level / 2 * (r + 1)) - 1, 0), (r - 1) // 2)  # the order statistic that leaves level / 2 outside
        student = _student(level, self.n - 1)
        low, high = min(float(self.pivots[cut]), -student), max(float(self.pivots[r - 1 - cut]), student)
        return self.mean - high * self.error, self.mean - low * self.error

    def _holds_zero(self, level: float) -> bool:
        low, high = self.interval(level)
        return low <= 0 <= high


def _student(level: float, freedom: int) -> float:
    """Student's two-sided quantile, from the normal one (Abramowitz and Stegun 26.7.5)."""
    z = NormalDist().inv_cdf(1 - min(level, 1 - 1e-9) / 2)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def studentized(differences: Float[Tensor, " p"], documents: Int[Tensor, " p"], *, draws: int, seed: int) -> Studentized:
    """Bootstrap the mean over documents of each document's mean difference."""
    sums, counts = by_document(differences[:, None], documents)
    each = (sums[:, 0] / counts).float()
    n = len(each)
    if n < _FEWEST:
        return Studentized(float(each.mean()) if n else 0.0, 0.0, torch.zeros(0), n)
    mean, error = float(each.mean()), float(each.std() / math.sqrt(n))
    if error == 0:
        return Studentized(mean, 0.0, torch.zeros(draws), n)
    share = _shares(n, draws, seed)
    unit = (each - mean) / each.std()
    centred = share @ unit
    spread = (share @ unit**2 - centred**2).clamp_min(0.0) * n / (n - 1)
    pivots = torch.where(spread > 1e-9, centred * math.sqrt(n) / spread.sqrt().clamp_min(1e-9), torch.sign(centred) * math.inf)
    return Studentized(mean, error, pivots.nan_to_num(0.0, math.inf, -math.inf).sort().values, n)


@functools.lru_cache(maxsize=4)
def _shares(n: int, draws: int, seed: int) -> Float[Tensor, "r n"]:
    """Every resample's weight on each of n documents."""
    return (resample(n, draws=draws, seed=seed) / n).float()
