"""The exponentially modulated logarithm f(t) = A exp(-l x) log(x) + K with x = g t + t0, fitted by least squares.

A and K are linear, so they are solved for at every (l, g, t0) of a grid, which is then narrowed around the best of it.
Letters: n times, c candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

_WIDE, _ROUNDS = 22, 14
_REACH = ((-4.0, 1.0), (-2.0, 3.0), (-3.0, 2.0))  # log10 of l, of g times the last t, of t0


@dataclass(frozen=True)
class ModulatedLog:
    """A fit. r2: share of the variance over time that it explains; 1 where there is none."""

    a: float
    decay: float  # lambda
    rate: float  # gamma
    offset: float  # t0
    level: float  # K
    r2: float

    def at(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        x = self.rate * t + self.offset
        return self.a * torch.exp(-self.decay * x) * x.log() + self.level


def fitted(t: Sequence[int | float], y: Sequence[int | float]) -> ModulatedLog:
    """The best of the family; deterministic. Times are not negative; at least one is above 0."""
    time, value = (torch.tensor(given, dtype=torch.float64) for given in (t, y))
    last = float(time.max())
    axes = [torch.linspace(low, high, _WIDE, dtype=torch.float64) for low, high in _REACH]
    width = [float(axis[1] - axis[0]) for axis in axes]
    best = _best(torch.cartesian_prod(*axes), time, value, last)
    for _ in range(_ROUNDS):
        near = [b + w * torch.linspace(-1, 1, 7, dtype=torch.float64) for b, w in zip(best[0].tolist(), width, strict=True)]
        best = min(best, _best(torch.cartesian_prod(*near), time, value, last), key=lambda one: one[2])
        width = [0.6 * w for w in width]
    place, (a, level), error = best
    spread = float((value - value.mean()).square().sum())
    decay, rate, offset = (10.0 ** float(one) for one in place)
    return ModulatedLog(a, decay, rate / last, offset, level, 1 - error / spread if spread > 0 else 1.0)


def _best(
    grid: Float[Tensor, "c 3"], t: Float[Tensor, " n"], y: Float[Tensor, " n"], last: float
) -> tuple[Float[Tensor, " 3"], tuple[float, float], float]:
    """(the best point of the grid, its A and K, its squared error)."""
    decay, rate, offset = (10.0**grid)[:, :, None].unbind(1)
    x = rate * t / last + offset
    shape = torch.exp(-decay * x) * x.log()
    centred = shape - shape.mean(1, keepdim=True)
    a = (centred * (y - y.mean())).sum(1) / centred.square().sum(1).clamp_min(1e-24)
    level = y.mean() - a * shape.mean(1)
    error = (a[:, None] * shape + level[:, None] - y).square().sum(1)
    i = int(error.argmin())
    return grid[i], (float(a[i]), float(level[i])), float(error[i])


def straight(x: Sequence[int | float], y: Sequence[int | float]) -> float:
    """R2 of the least-squares line of y over x, the simplest rival; 1 where y does not vary."""
    a, b = (torch.tensor(given, dtype=torch.float64) for given in (x, y))
    a, b = a - a.mean(), b - b.mean()
    both = float(a.square().sum() * b.square().sum())
    return float((a * b).sum()) ** 2 / both if both > 0 else float(b.square().sum() == 0)
