"""The generalized discrimination value, of vectors drawn any number of times.

Letters: n vectors, d width, c classes.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def distances_of(x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """Between all vectors, over sqrt(d), each coordinate z-scored over them and halved; one that never changes counts 0."""
    x = x.double()
    spread = x.std(0, correction=0)
    z = torch.where(spread > 0, 0.5 * (x - x.mean(0)) / spread.clamp_min(1e-300), 0.0)
    return torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist").float() / x.shape[1] ** 0.5


def gdv_of(
    apart: Float[Tensor, "n n"], kind: Int[Tensor, " n"], c: int, weight: Float[Tensor, " n"]
) -> tuple[float, float, float]:
    """(GDV, intra, inter) of vectors that count as often as `weight` says; a pair of a vector and itself never counts. Classes
    without two vectors are left out; NaN where fewer than two are left."""
    member = torch.zeros(len(kind), c).scatter_(1, kind[:, None], 1.0) * weight[:, None]
    count = member.sum(0)
    pairs = count[:, None] * count - torch.diag(member.square().sum(0))
    sums = member.T @ apart @ member
    left = pairs.diagonal() > 0
    mean = (sums / pairs.clamp_min(1e-30))[left][:, left]
    n = int(left.sum())
    if n < 2:
        return float("nan"), float("nan"), float("nan")
    intra = float(mean.diagonal().mean())
    inter = float((mean.sum() - mean.diagonal().sum()) / (n * (n - 1)))
    return intra - inter, intra, inter
