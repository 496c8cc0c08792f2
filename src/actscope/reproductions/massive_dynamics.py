"""How massive activations come up in training. Gallego-Feliciano, McClendon et al. 2025, "Hidden Dynamics of Massive
Activations in Transformer Training" (arXiv:2508.03616), on eight small language models instead of Pythia's.

    1. Train 2 depths x 2 widths x 2 numbers of heads on a phrase-structure grammar, and keep a dozen checkpoints of each,
       log-spaced.
    2. At every checkpoint and layer: the ratio of the largest activation to the median one, on sentences kept out.
    3. Fit f(t) = A exp(-lambda x) log(x) + K, x = gamma t + t0, to the ratio over steps, for the layers that show large
       activations: a last ratio of at least twice that of normal draws. R2 is what counts. Baseline: a straight line in
       log(1 + t), of two parameters. Control: the same curve fitted to the ratios in random orders.
    4. Predict each model's last ratio (of its largest layer) from depth, log width and heads by least squares on the other
       seven models; what counts is the share of squared error that this leaves out, against the mean of the other seven.

None of these models has an activation that is massive in the sense of Sun et al. 2024 (over 100 and 1000 times the median);
what is followed is how far the largest stands out.
"""

import itertools
import math
import time
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from actscope.core.progress import Progress, quiet
from actscope.core.reproduction import Reproduction
from actscope.core.score import Score
from actscope.reproductions._parts.phrases import held, trained
from actscope.reproductions._parts.seeds import gathered, means
from actscope.scores.subject.massive_activations import massive_activations
from actscope.scores.subject.massive_dynamics import massive_dynamics as dynamics
from actscope.subjects.hf import HFSubject

__all__ = ["massive_dynamics"]

CLAIM = (
    "The five-parameter curve explains at least 0.9 of the variance over training of every layer's ratio that grows large, and "
    "depth, width and heads predict a model's last ratio better than the mean of the others does."
)
BAR = 0.9
SHAPES = tuple(itertools.product((2, 4), (16, 48), (2, 4)))  # layers, width, heads
LARGE = 2.0  # times the ratio of normal draws


def massive_dynamics(
    *, seeds: Sequence[int] = (0,), steps: int = 400, texts: int = 24, full: bool = False, progress: Progress = quiet
) -> Reproduction:
    """The course of massive activations over training, and what depth, width and heads say of it (Gallego-Feliciano et al.
    2025, arXiv:2508.03616).

    seeds: of networks and texts. steps: of training; texts: sequences measured on. full: three seeds, three times the steps.
    holds: in every seed every large layer's R2 reaches its bar and shapes predict better than the mean.
    """
    began = time.monotonic()
    if full:
        seeds, steps = tuple(range(3)), 3 * steps
    found: list[dict[str, float]] = []
    for number, seed in enumerate(seeds):
        told: list[tuple[float, list[Score]]] = []
        for place, shape in enumerate(SHAPES):
            progress(number * len(SHAPES) + place, len(seeds) * len(SHAPES), f"seed {seed}, model {place}")
            told.append(_followed(shape, steps, texts, seed))
        found.append(_judged(told))
    progress(len(seeds) * len(SHAPES), len(seeds) * len(SHAPES), "seeds")
    figures = gathered(found)
    mean = means(figures)
    holds = min(figures["least R2"]) >= BAR and min(figures["error left out"]) > 0
    return Reproduction(
        "massive-dynamics", CLAIM, mean["R2"], mean["R2 of a line"], mean["R2, steps shuffled"], "R2", tuple(seeds), holds,
        time.monotonic() - began, figures, {},
    )  # fmt: skip


def _followed(shape: tuple[int, int, int], steps: int, texts: int, seed: int) -> tuple[float, list[Score]]:
    """(the last ratio of the model's largest layer, the fits of its large layers)."""
    passages, _ = held(texts, seed=seed)
    at = sorted({round(steps ** (place / 11)) for place in range(12)})
    found: list[list[Score]] = []

    def keep(subject: HFSubject) -> None:
        found.append(massive_activations(subject, passages)[1:])

    layers, width, heads = shape
    trained(width=width, layers=layers, heads=heads, steps=steps, seed=seed, kept=keep, at=at)
    ratios = {last.name.partition(":")[2]: [one[n].value for one in found] for n, last in enumerate(found[-1])}
    large = {
        site: ratio
        for (site, ratio), last in zip(ratios.items(), found[-1], strict=True)
        if ratio[-1] >= LARGE * (last.control or 0.0)
    }
    return max(ratio[-1] for ratio in ratios.values()), dynamics(at, large, seed=seed)[1:] if large else []


def _judged(told: Sequence[tuple[float, list[Score]]]) -> dict[str, float]:
    """Steps 3 and 4 of one seed."""
    fits = [score for _, scores in told for score in scores]
    last = torch.tensor([ratio for ratio, _ in told], dtype=torch.float64)
    shape = torch.tensor([[1.0, layers, math.log(width), heads] for layers, width, heads in SHAPES], dtype=torch.float64)
    n = max(len(fits), 1)
    found = {
        "large layers": float(len(fits)),
        "R2": sum(one.value for one in fits) / n,
        "least R2": min((one.value for one in fits), default=0.0),
        "R2 of a line": sum(one.parts["line"] for one in fits) / n,
        "R2, steps shuffled": sum(one.control or 0.0 for one in fits) / n,
        "last ratio": float(last.mean()),
        "error left out": left_out(shape, last),
    }
    order = torch.randperm(len(last), generator=torch.Generator().manual_seed(0))
    return {**found, "error left out, shapes shuffled": left_out(shape[order], last)}


def left_out(x: Float[Tensor, "n k"], y: Float[Tensor, " n"]) -> float:
    """The share of squared error that least squares on the other rows leaves out, against the other rows' mean: 1 none is left,
    0 no better than the mean."""
    error = mean = 0.0
    for row in range(len(y)):
        others = torch.arange(len(y)) != row
        weight = torch.linalg.lstsq(x[others], y[others, None]).solution[:, 0]
        error += float(x[row] @ weight - y[row]) ** 2
        mean += float(y[others].mean() - y[row]) ** 2
    return 1 - error / mean if mean > 0 else 0.0
