"""How massive activations come up in training. Gallego-Feliciano, McClendon et al. 2025, "Hidden Dynamics of Massive
Activations in Transformer Training" (arXiv:2508.03616).

1. At every checkpoint and layer take the ratio of the largest activation to the median one (`massive_activations`).
2. Fit each layer's ratio over training steps t by

       f(t) = A exp(-lambda x) log(x) + K,   x = gamma t + t0

   where A is the height, lambda the decay, gamma the pace, t0 the start and K what is reached in the end where lambda > 0.
3. R2 says how much of the ratio's variance over steps the curve explains.

With five parameters and a dozen checkpoints much is explained by chance: the control fits the same ratios in a random order.
Letters: n checkpoints.
"""

import math
from collections.abc import Mapping, Sequence

import torch

from actscope.core.errors import BadInput
from actscope.core.score import Score
from actscope.scores._parts.cost import Cost
from actscope.scores._parts.modulated_log import fitted, straight

__all__ = ["massive_dynamics"]

COST = Cost("checkpoints")
_FEWEST = 7  # checkpoints: two more than parameters


def massive_dynamics(
    steps: Sequence[int], ratios: Mapping[str, Sequence[float]], *, shuffles: int = 10, seed: int = 0
) -> list[Score]:
    """R2 of the five-parameter curve of the ratio over training: the mean over layers, then a Score a layer (Gallego-Feliciano
    et al. 2025, arXiv:2508.03616).

    steps: of training, one a checkpoint; ratios: site -> top / median at each. Control: the mean R2 of the same ratios in
    `shuffles` random orders. n: checkpoints. No interval: the checkpoints are not drawn from anything. parts: A, lambda, gamma,
    t0, K; line (R2 of a straight line in log(1 + t), two parameters); last (the last ratio); peak (the step at which the curve
    is highest, where that lies within the steps). Raises BadInput for fewer than 7 checkpoints, or ratios that are not as many.
    """
    if len(steps) < _FEWEST or any(len(one) != len(steps) for one in ratios.values()) or not ratios:
        raise BadInput(
            f"{len(steps)} checkpoints given; a curve of 5 parameters needs at least {_FEWEST}, with a ratio at each."
        )
    draw = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(steps), generator=draw).tolist() for _ in range(shuffles)]
    scores = [_score(site, steps, one, orders) for site, one in ratios.items()]
    mean = sum(score.value for score in scores) / len(scores)
    control = sum(score.control or 0.0 for score in scores) / len(scores)
    whole = Score("massive_dynamics", "massive_dynamics@1", mean, "R2", "neither", len(steps), None, control)
    return [whole, *scores]


def _score(site: str, steps: Sequence[int], ratio: Sequence[float], orders: list[list[int]]) -> Score:
    fit = fitted(steps, ratio)
    shuffled = [fitted(steps, [ratio[place] for place in order]).r2 for order in orders]
    line = straight([math.log1p(step) for step in steps], ratio)
    parts = {"A": fit.a, "lambda": fit.decay, "gamma": fit.rate, "t0": fit.offset, "K": fit.level, "line": line}
    fine = torch.logspace(0, math.log10(max(steps)), 400, dtype=torch.float64)
    place = int(fit.at(fine).argmax())
    parts |= {"peak": float(fine[place])} if place < len(fine) - 1 else {}
    parts["last"] = ratio[-1]
    control = sum(shuffled) / len(shuffled) if shuffled else None
    return Score(f"massive_dynamics:{site}", "massive_dynamics@1", fit.r2, "R2", "neither", len(steps), None, control, parts)
