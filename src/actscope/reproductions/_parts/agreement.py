"""How well two ways to group the same things agree."""

import torch
from jaxtyping import Int
from torch import Tensor


def adjusted_rand(a: Int[Tensor, " n"], b: Int[Tensor, " n"]) -> float:
    """The adjusted Rand index (Hubert and Arabie 1985): 1 for the same groups, 0 on average for groups at random."""
    counts = torch.zeros(int(a.max()) + 1, int(b.max()) + 1, dtype=torch.float64)
    counts.index_put_((a, b), torch.ones(len(a), dtype=torch.float64), accumulate=True)

    def pairs(x: Tensor) -> float:
        return float((x * (x - 1) / 2).sum())

    both, mine, theirs = pairs(counts), pairs(counts.sum(1)), pairs(counts.sum(0))
    chance = mine * theirs / (len(a) * (len(a) - 1) / 2)
    most = (mine + theirs) / 2
    return (both - chance) / (most - chance) if most > chance else 1.0
