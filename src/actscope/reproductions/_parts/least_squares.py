"""Partial least squares of one target (Wold 1975; NIPALS), for every number of components at once.

1. Columns to mean 0 and variance 1; the target to mean 0.
2. A component is the direction of largest covariance with what is left of the target: w = X^T y, t = X w; loadings p = X^T t /
   t^T t and q = y^T t / t^T t.
3. Take it off: X <- X - t p^T, y <- y - q t; and again from 2.
4. The weights of the first k components, on the columns as they were: W (P^T W)^-1 q.

Letters: n rows, f columns, k components.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Partial:
    """weight[k - 1] holds the weights of k components, for the columns as given."""

    weight: Float[Tensor, "k f"]
    centre: Float[Tensor, " f"]
    level: float

    def r2(self, x: Float[Tensor, "n f"], y: Float[Tensor, " n"]) -> Float[Tensor, " k"]:
        """The share of the target's variance on these rows that is explained, for each number of components."""
        said = (x.double() - self.centre) @ self.weight.T + self.level
        y = y.double()
        return 1 - (said - y[:, None]).square().sum(0) / (y - y.mean()).square().sum()


def partial(x: Float[Tensor, "n f"], y: Float[Tensor, " n"], most: int) -> Partial:
    """Up to `most` components, in float64; fewer where nothing of the target is left to explain."""
    x, y = x.double(), y.double()
    centre, spread, level = x.mean(0), x.std(0), float(y.mean())
    spread = torch.where(spread > 1e-12, spread, 1.0)
    left, target = (x - centre) / spread, y - level
    ways, loads, slopes, weights = [], [], [], []
    for _ in range(most):
        way = left.T @ target
        if float(way.norm()) < 1e-10 * len(y):
            break
        way = way / way.norm()
        score = left @ way
        size = score @ score
        load, slope = left.T @ score / size, target @ score / size
        left, target = left - score[:, None] * load, target - slope * score
        ways.append(way)
        loads.append(load)
        slopes.append(slope)
        w, p = torch.stack(ways, 1), torch.stack(loads, 1)
        weights.append(w @ torch.linalg.solve(p.T @ w, torch.stack(slopes)) / spread)
    return Partial(torch.stack(weights) if weights else torch.zeros(1, x.shape[1], dtype=torch.float64), centre, level)
