"""Linear probes: logistic regression, and the order in which an L1 penalty lets columns in.

Columns are divided by their standard deviation first, so nothing depends on the scale of a column; both sides of a label
weigh the same.
Letters: n rows, f columns.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

_STEPS = 100  # of Newton's method
_HALVINGS = 40


@dataclass(frozen=True)
class Probe:
    """Says yes where x @ weight + bias > 0."""

    weight: Float[Tensor, " f"]
    bias: float

    def logit(self, x: Float[Tensor, "n f"]) -> Float[Tensor, " n"]:
        return x @ self.weight + self.bias

    def says(self, x: Float[Tensor, "n f"]) -> Bool[Tensor, " n"]:
        return self.logit(x) > 0


def logistic(x: Float[Tensor, "n f"], holds: Bool[Tensor, " n"], *, penalty: float = 1.0) -> Probe:
    """Logistic regression by Newton's method: the sum over rows of the loss + penalty / 2 * |weights of scaled columns|^2."""
    scaled, centre, spread = _scaled(x.double())
    ones = torch.cat([scaled, torch.ones(len(x), 1, dtype=torch.float64)], dim=1)
    sign, weigh = torch.where(holds, 1.0, -1.0).double(), _balance(holds)
    ridge = torch.full((ones.shape[1],), penalty, dtype=torch.float64)
    ridge[-1] = 1e-9  # the bias is free
    w = torch.zeros_like(ridge)

    def loss(at: Tensor) -> Tensor:
        return (weigh * functional.softplus(-sign * (ones @ at))).sum() + (ridge * at.square()).sum() / 2

    now = loss(w)
    for _ in range(_STEPS):
        chance = torch.sigmoid(-sign * (ones @ w))
        slope = ones.T @ (-weigh * sign * chance) + ridge * w
        bend = (ones * (weigh * chance * (1 - chance))[:, None]).T @ ones + ridge.diag()
        step = torch.linalg.solve(bend, slope)
        size = 1.0
        while (new := loss(w - size * step)) > now and size > 2.0**-_HALVINGS:
            size /= 2
        if new >= now or float(slope @ step) < 1e-9 * len(x):
            break
        w, now = w - size * step, new
    weight = w[:-1] / spread
    return Probe(weight.float(), float(w[-1] - centre @ weight))


def sparse_order(
    x: Float[Tensor, "n f"], holds: Bool[Tensor, " n"], *, penalty: float = 0.01, steps: int = 200
) -> Int[Tensor, " f"]:
    """Columns by the weight that logistic regression under an L1 penalty gives them, the largest positive weight first.

    The mean over rows of the loss + penalty * |weights|_1, by accelerated proximal descent (Beck and Teboulle 2009).
    """
    scaled, _, _ = _scaled(x.double())
    scaled = scaled.float()
    sign = torch.where(holds, 1.0, -1.0)
    weigh = (_balance(holds) / len(x)).float()
    step = 4 / (torch.linalg.eigvalsh(scaled.T @ (scaled * weigh[:, None]))[-1].clamp(min=1e-6) + 1)
    w = ahead = scaled.new_zeros(scaled.shape[1])
    bias = bias_ahead = scaled.new_zeros(())
    pace = 1.0
    for _ in range(steps):
        pull = -weigh * sign * torch.sigmoid(-sign * (scaled @ ahead + bias_ahead))
        new = ahead - step * (scaled.T @ pull)
        new = new.sign() * (new.abs() - step * penalty).clamp(min=0)
        new_bias = bias_ahead - step * pull.sum()
        following = (1 + (1 + 4 * pace * pace) ** 0.5) / 2
        drift = (pace - 1) / following
        ahead, bias_ahead = new + drift * (new - w), new_bias + drift * (new_bias - bias)
        w, bias, pace = new, new_bias, following
    return w.argsort(descending=True, stable=True)


def _scaled(x: Float[Tensor, "n f"]) -> tuple[Tensor, Tensor, Tensor]:
    """(columns with mean 0 and variance 1, means, standard deviations; 1 where a column is constant)."""
    centre, spread = x.mean(0), x.std(0, correction=0)
    spread = torch.where(spread > 1e-12 * x.abs().amax(0).clamp(min=1e-300), spread, 1.0)
    return (x - centre) / spread, centre, spread


def _balance(holds: Bool[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Weights of rows that sum to n, half of it on each side."""
    yes = int(holds.sum())
    return torch.where(holds, len(holds) / (2 * max(yes, 1)), len(holds) / (2 * max(len(holds) - yes, 1))).double()
