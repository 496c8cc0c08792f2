"""Where training starts from: directions, a centre and a scale.

Letters: n rows, d width, m latents.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

HEAVY = 20.0  # attention sinks and the like; below it the root mean square leaves a little less unexplained


def unit_rows(m: int, d: int, seed: int) -> Float[Tensor, "m d"]:
    """m random directions, uniform on the sphere."""
    return functional.normalize(torch.randn(m, d, generator=torch.Generator().manual_seed(seed)), dim=1)


def geometric_median(x: Float[Tensor, "n d"], rounds: int = 50) -> Float[Tensor, " d"]:
    """The point with the least summed distance to the rows (Weiszfeld's algorithm): a mean that outliers do not move."""
    point = x.mean(0)
    for _ in range(rounds):
        weight = 1 / (x - point).norm(dim=1, keepdim=True).clamp(min=1e-6 * float(x.norm()) / len(x) ** 0.5 + 1e-30)
        before, point = point, (weight * x).sum(0) / weight.sum()
        if (point - before).norm() <= 1e-6 * (x - point).norm() / len(x) ** 0.5:
            break
    return point


def spread(x: Float[Tensor, "n d"], centre: Float[Tensor, " d"]) -> Float[Tensor, ""]:
    """Root mean square of a coordinate about the centre; where a few rows outweigh all others, so that this is above
    `HEAVY` times the middle row's, the middle row's (LOG.md has both beside each other); 1 where the rows do not differ at
    all."""
    squares = (x - centre).square()
    scale, middle = squares.mean().sqrt(), squares.mean(1).median().sqrt()
    scale = torch.where((middle > 0) & (scale > HEAVY * middle), middle, scale)
    return torch.where(scale > 0, scale, torch.ones_like(scale))


def spreads(x: Float[Tensor, "n d"], centre: Float[Tensor, " d"], widths: Sequence[int]) -> Float[Tensor, " d"]:
    """The spread of each of several sites that stand side by side, repeated over its coordinates."""
    parts = zip(x.split(list(widths), 1), centre.split(list(widths)), strict=True)
    return torch.cat([spread(part, middle).expand(part.shape[1]) for part, middle in parts])
