"""How well probabilities are what they say. Guo et al. 2017, "On Calibration of Modern Neural Networks" (arXiv:1706.04599).

Letters: n inputs, k classes.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def calibration_error(probabilities: Float[Tensor, "n k"], labels: Int[Tensor, " n"], bins: int = 15) -> float:
    """The expected calibration error (ECE): inputs go into bins of equal width by the highest probability; the gap between a
    bin's mean probability and its accuracy, averaged over inputs."""
    sure, said = probabilities.double().max(1)
    right = (said == labels).double()
    place = (sure * bins).ceil().long().clamp(1, bins) - 1
    gaps = torch.zeros(bins, dtype=torch.float64).index_add(0, place, right - sure)
    return float(gaps.abs().sum() / len(labels))
