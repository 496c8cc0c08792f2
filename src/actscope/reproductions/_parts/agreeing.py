"""Answers that agree more or less, their EigenScore the way papers compute it, and how long things take.

Letters: k vectors, d width.
"""

import time
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def agreeing(seed: int, k: int, d: int) -> Float[Tensor, "k d"]:
    """k vectors that agree more or less, in few or many directions."""
    draw = torch.Generator().manual_seed(seed)
    agree, fall = torch.rand(2, generator=draw).tolist()
    directions = torch.arange(1, d + 1) ** -(0.2 + fall)
    return 2 * torch.randn(1, d, generator=draw) + (0.2 + 2 * agree) * torch.randn(k, d, generator=draw) * directions


def by_eigenvalues(z: Float[Tensor, "k d"], a: float, *, vectors: bool = True) -> float:
    """The mean log eigenvalue of the regularised covariance, from all eigenvalues in float64. vectors: with eigenvectors, as
    Mohammadzadeh et al. 2024's own code has it (numpy.linalg.eigh)."""
    c = z.double() - z.double().mean(1, keepdim=True)
    covariance = c @ c.T
    values = torch.linalg.eigh(covariance)[0] if vectors else torch.linalg.eigvalsh(covariance)
    return float(values.clamp_min(0.0).add(a).log().mean())


def times_faster(slow: Callable[[], object], fast: Callable[[], object], rounds: int) -> list[float]:
    """Sorted ratios of paired rounds: what else the machine does falls on both."""
    return sorted(_seconds(slow) / _seconds(fast) for _ in range(rounds))


def _seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began
