"""How massive activations come up in training. Gallego-Feliciano, McClendon et al. 2025, "Hidden Dynamics of Massive
Activations in Transformer Training" (arXiv:2508.03616), on eight small language models of Pythia's kind.

    1. Train models of 2 depths x 2 widths x 2 numbers of heads on a task on which heads are mostly idle
       (_parts/backcopy.py), with Adam and no decay of weights or rate, and keep 14 checkpoints of each, log-spaced.
    2. At every checkpoint and layer: the ratio of the largest activation to the median one, on sequences kept out.
    3. Fit f(t) = A exp(-lambda x) log(x) + K, x = gamma t + t0, to the ratio over steps, for the layers that show large
       activations: a last ratio of at least three times that of normal draws. R2 is what counts. Baseline: a straight line in
       log(1 + t), of two parameters. Control: the same curve fitted to the ratios in random orders.
    4. Predict each model's last ratio (the logarithm, of its largest layer) from the logarithms of depth, width and heads by
       least squares on the other seven models; what counts is the share of squared error that this leaves out, against the
       mean of the other seven. The same of the curve's parameters. Control: with shapes dealt out anew.

None of these activations is massive in the sense of Sun et al. 2024 (over 100 and 1000 times the median), and most do not stand
at the first token; what is followed is how far the largest stands out. The rate, the batch and the number of steps came about
by looking at the ratios of five models with seed 0.
Letters: n models, f columns.
"""

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from actscope.core.progress import Progress, quiet
from actscope.core.reproduction import Reproduction
from actscope.core.score import Score
from actscope.reproductions._parts.backcopy import held, trained
from actscope.reproductions._parts.seeds import beyond, gathered, means
from actscope.scores.subject.massive_activations import massive_activations
from actscope.scores.subject.massive_dynamics import massive_dynamics as dynamics
from actscope.subjects.hf import HFSubject

__all__ = ["massive_dynamics"]

CLAIM = (
    "The five-parameter curve explains at least 0.9 of the variance over training of every layer's ratio that grows large, and "
    "depth, width and heads predict a model's last ratio better than the mean of the others does."
)
BAR = 0.9
SHAPES = tuple(itertools.product((1, 3), (16, 64), (1, 4)))  # layers, width, heads
LARGE = 3.0  # times the ratio of normal draws
CHECKPOINTS = 14
RATE = 1e-2
DEALT = 100  # times that shapes are dealt out anew


def massive_dynamics(
    *, seeds: Sequence[int] = (0,), steps: int = 400, texts: int = 16, full: bool = False, progress: Progress = quiet
) -> Reproduction:
    """The course of massive activations over training, and what depth, width and heads say of it (Gallego-Feliciano et al.
    2025, arXiv:2508.03616).

    seeds: of networks and task. steps: of training; texts: sequences measured on. full: five seeds other than that on
    which the rate was chosen, twice the steps.
    holds: in every seed every large layer's R2 reaches its bar; and, in every seed and over seeds (95%, Student's t), R2 is
    above that of random orders, and shapes leave less error than the mean does, and than shapes dealt out anew do.
    """
    began = time.monotonic()
    if full:
        seeds, steps = (1, 2, 3, 4, 5), 2 * steps
    found: list[dict[str, float]] = []
    for number, seed in enumerate(seeds):
        told = []
        for place, shape in enumerate(SHAPES):
            progress(number * len(SHAPES) + place, len(seeds) * len(SHAPES), f"seed {seed}, model {place}")
            told.append(_followed(shape, steps, texts, seed))
        found.append(_judged(told, seed))
    progress(len(seeds) * len(SHAPES), len(seeds) * len(SHAPES), "seeds")
    figures = gathered(found)
    mean = means(figures)
    predicted, anew = (figures[f"R2 left out, last ratio{name}"] for name in ("", ", shapes dealt out anew"))
    holds = (
        min(figures["least R2"]) >= BAR
        and beyond(figures["R2"], figures["R2, random orders"])
        and beyond(predicted, anew, [0.0] * len(seeds))  # 0: no better than the mean
    )
    return Reproduction(
        "massive-dynamics", CLAIM, mean["R2"], mean["R2 of a line"], mean["R2, random orders"], "R2", tuple(seeds), holds,
        time.monotonic() - began, figures, {},
    )  # fmt: skip


def _followed(shape: tuple[int, int, int], steps: int, texts: int, seed: int) -> list[Score]:
    """Steps 1 to 3 of one model: the fit of every layer."""
    passages = held(texts, seed=seed)
    at = sorted({round(steps ** (place / (CHECKPOINTS - 1))) for place in range(CHECKPOINTS)})
    found: list[list[Score]] = []

    def keep(subject: HFSubject) -> None:
        found.append(massive_activations(subject, passages)[1:])

    layers, width, heads = shape
    trained(layers=layers, width=width, heads=heads, steps=steps, rate=RATE, seed=seed, kept=keep, at=at)
    ratios = {last.name.partition(":")[2]: [one[n].value for one in found] for n, last in enumerate(found[-1])}
    fits = dynamics(at, ratios, seed=seed)[1:]
    return [
        replace(fit, parts={**fit.parts, "chance": last.control or 0.0, "first": last.parts["first"]})
        for fit, last in zip(fits, found[-1], strict=True)
    ]


def _judged(told: Sequence[list[Score]], seed: int) -> dict[str, float]:
    """Steps 3 and 4 of one seed."""
    large = [fit for fits in told for fit in fits if fit.parts["last"] >= LARGE * fit.parts["chance"]]
    largest = [max(fits, key=lambda fit: fit.parts["last"]) for fits in told]
    n = max(len(large), 1)
    found = {
        "large layers": float(len(large)),
        "R2": sum(one.value for one in large) / n,
        "least R2": min((one.value for one in large), default=0.0),
        "R2 of a line": sum(one.parts["line"] for one in large) / n,
        "R2, random orders": sum(one.control or 0.0 for one in large) / n,
        "large layers, share of sequences with the top at the first token": sum(one.parts["first"] for one in large) / n,
        "ratio of normal draws": largest[0].parts["chance"],
    }
    told_apart = {
        "last ratio": [math.log10(fit.parts["last"]) for fit in largest],
        "K": [fit.parts["K"] for fit in largest],
        "A": [fit.parts["A"] for fit in largest],
        "lambda": [math.log10(fit.parts["lambda"]) for fit in largest],
        "gamma": [math.log10(fit.parts["gamma"]) for fit in largest],
        "t0": [math.log10(fit.parts["t0"]) for fit in largest],
    }
    x = torch.tensor([[1.0, *map(math.log2, shape)] for shape in SHAPES], dtype=torch.float64)
    draw = torch.Generator().manual_seed(seed)
    anew = [torch.randperm(len(x), generator=draw) for _ in range(DEALT)]
    for name, values in told_apart.items():
        y = torch.tensor(values, dtype=torch.float64)
        found[f"R2 left out, {name}"] = left_out(x, y)
        if name == "last ratio":
            found[f"R2 left out, {name}, shapes dealt out anew"] = sum(left_out(x[one], y) for one in anew) / DEALT
    for (layers, width, heads), fit in zip(SHAPES, largest, strict=True):
        found[f"last ratio, {layers} layers, width {width}, {heads} heads"] = fit.parts["last"]
    return found


def left_out(x: Float[Tensor, "n f"], y: Float[Tensor, " n"]) -> float:
    """The share of squared error that least squares on the other rows leaves out, against the other rows' mean: 1 none is left,
    0 no better than the mean."""
    error = mean = 0.0
    for row in range(len(y)):
        others = torch.arange(len(y)) != row
        weight = torch.linalg.lstsq(x[others], y[others, None]).solution[:, 0]
        error += float(x[row] @ weight - y[row]) ** 2
        mean += float(y[others].mean() - y[row]) ** 2
    return 1 - error / mean if mean > 0 else 0.0
