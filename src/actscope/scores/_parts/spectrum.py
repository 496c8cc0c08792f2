"""What the eigenvalues of a covariance say.

Letters: d width.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def spectrum_of(covariance: Float[Tensor, "d d"]) -> Float[Tensor, " d"]:
    """Its eigenvalues, falling, none below 0."""
    return torch.linalg.eigvalsh(covariance).flip(0).clamp_min(0.0)


def rankme_of(eigenvalues: Float[Tensor, " d"]) -> float:
    """exp of the entropy of the normalised singular values, their square roots; 0 where all are 0."""
    sigma = eigenvalues.clamp_min(0.0).sqrt()
    if float(sigma.sum()) == 0:
        return 0.0
    p = sigma / sigma.sum()
    return float(torch.special.entr(p).sum().exp())


def alpha_of(eigenvalues: Float[Tensor, " d"], ranks: tuple[int, int] | None = None) -> tuple[float, float]:
    """(alpha, R2) of the least-squares line of log eigenvalue over log rank; ranks: the first and last, counted from 1; d/16 to
    d/2 when left out. NaN where fewer than 3 positive eigenvalues stand there."""
    d = len(eigenvalues)
    first, last = ranks or (max(1, d // 16), max(3, d // 2))
    chosen = eigenvalues[first - 1 : last]
    rank = torch.arange(first, first + len(chosen), dtype=torch.float64)[chosen > 1e-12 * eigenvalues[0]]
    chosen = chosen[chosen > 1e-12 * eigenvalues[0]].double()
    if len(chosen) < 3:
        return float("nan"), float("nan")
    x, y = rank.log() - rank.log().mean(), chosen.log() - chosen.log().mean()
    slope = float((x * y).sum() / x.square().sum())
    spread = float(y.square().sum())
    return -slope, 1.0 if spread < 1e-20 else 1 - float((y - slope * x).square().sum()) / spread
