"""The loss landscape has phases, and which one a network was trained in says whether weights may be averaged. Schürholt et al.
2025, "A Model Zoo on Phase Transitions in Neural Networks" (arXiv:2504.18072), with the phases of Yang et al. 2021,
"Taxonomizing local versus global structure in neural network loss landscapes" (arXiv:2107.11228), on networks with one hidden
layer that tell digits of 8 x 8 pixels.

    1. The zoo: every width of a grid (the load) at every rate of gradient descent (the temperature), four replicas each, which
       differ in start and order of the pictures.
    2. Of each network the trace and the largest eigenvalue of the Hessian of the training loss. Of replicas 0 and 1, and of
       2 and 3, the mode connectivity: a quadratic Bezier curve between them is bent to where the loss is low, and the mean
       loss of its ends less the loss farthest from it is measured. And of these pairs the similarity of outputs (linear CKA)
       on pictures not trained on.
    3. Phases of settings, by the means of the two pairs. Connected: no barrier over 0.05 nats. Sharp: the logarithm of the
       trace is above the threshold that parts settings in two with the least spread within. Alike: CKA above such a
       threshold among the settings that are connected and flat.
            I  sharp, not connected     II  sharp, connected     III  flat, not connected
            IV-A  flat, connected, not alike     IV-B  flat, connected, alike
    4. Separable: the share of settings of which both pairs, by themselves, show the same phase. Control: with pairs dealt out
       anew among settings.
    5. Average the weights of the four replicas, their hidden units put in one order (MergeMany of Ainsworth et al. 2022), and
       compare the accuracy with the mean of the four. Controls: in a random order; and, in place of replicas, the weights
       after the last epochs of one network.
    6. The spread of accuracy within phases against that across them, both estimates of the same spread where phases do not
       matter. Control: phases dealt out anew.

The grid was chosen on a seed of its own (1000), so that training ends between too little of it and as noisy as it may be.
The phase that the paper calls well connected is IV; of the others II has no barrier either, and is told apart below.

On this zoo averages of replicas with starts of their own lose everywhere, least in IV; what they lose goes with width more than
with phase (LOG.md).
Letters: c settings, n pictures, M networks.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from actscope.core.files import sha256
from actscope.core.progress import Progress, quiet
from actscope.core.reproduction import Reproduction
from actscope.organisms.digits import CLASSES, SIDE, Split, pictures
from actscope.reproductions._parts.landscape import (
    averaged,
    cka,
    connectivity,
    curve,
    fresh,
    hessian,
    merged,
    ordered,
    trained,
)
from actscope.reproductions._parts.seeds import beyond, gathered, means

__all__ = ["phase_zoo"]

CLAIM = (
    "Over a grid of width and temperature, settings fall into phases of the loss landscape that metrics tell apart; averaging "
    "weights helps in the connected phase only, and accuracy differs less within a phase than across phases."
)
PHASES = ("I", "II", "III", "IV-A", "IV-B")
WIDTHS, RATES, REPLICAS = (4, 16, 64, 256), (0.001, 0.005, 0.025, 0.125), 4
PAIRED = ("trace", "connected", "alike")
NAMES = {
    "trace": "log10 trace", "connected": "connectivity", "alike": "CKA", "top": "top eigenvalue", "loss": "training loss",
    "accuracy": "accuracy", "gain": "gain", "random_order": "gain in a random order", "epochs": "gain of the last epochs",
}  # fmt: skip
BARRIER = 0.05  # nats
SEPARABLE = 0.8  # of settings whose pairs show one phase
CURVED = 500  # pictures of training on which the Hessian is taken
DEALT = 200  # times that labels are dealt out anew


def phase_zoo(
    *,
    seeds: Sequence[int] = (0,),
    widths: Sequence[int] = WIDTHS,
    rates: Sequence[float] = RATES,
    epochs: int = 40,
    bends: int = 300,
    probes: int = 20,
    full: bool = False,
    progress: Progress = quiet,
) -> Reproduction:
    """Phases of the loss landscape over width and temperature, and what they foretell (arXiv:2504.18072).

    seeds: of split and zoo. widths, rates: the grid; epochs: of training. bends: steps in which each curve is bent. probes: of
    the trace, and steps to the largest eigenvalue. full: three seeds. ours, baseline and control: points of accuracy gained by
    averaging in phase IV, in the others, and in IV with hidden units in a random order. holds: in every seed the share of
    settings whose pairs show one phase reaches its bar, and averaging gains in IV and loses elsewhere; and, in every seed and
    over seeds (95%, Student's t), it gains more in IV, and the spread of accuracy across phases is above that within them and
    that with phases dealt out anew.
    """
    began = time.monotonic()
    if full:
        seeds = (0, 1, 2)
    found: list[dict[str, float]] = []
    for number, seed in enumerate(seeds):
        split, settings = pictures(seed), []
        for place, width in enumerate(widths):
            progress(number * len(widths) + place, len(seeds) * len(widths), f"seed {seed}: width {width}")
            settings += population(split, width, rates, epochs=epochs, bends=bends, probes=probes, seed=seed)
        found.append(_measured(settings, seed))
    progress(len(seeds) * len(widths), len(seeds) * len(widths), "seeds")
    shared = [name for name in found[0] if all(name in one for one in found)]  # not every phase occurs with every seed
    figures = gathered([{name: one[name] for name in shared} for one in found])
    mean = means(figures)
    inside, outside = figures["gain, phase IV"], figures["gain, other phases"]
    spread = [figures[f"spread of accuracy {name}"] for name in ("across phases", "within phases", "across, dealt out anew")]
    holds = (
        min(figures["settings whose pairs show one phase"]) >= SEPARABLE
        and min(inside) > 0 > max(outside)
        and beyond(inside, outside)
        and beyond(*spread)
    )
    return Reproduction(
        "phase-zoo", CLAIM, mean["gain, phase IV"], mean["gain, other phases"], mean["gain, phase IV, random order"],
        "points of accuracy gained by averaging", tuple(seeds), holds, time.monotonic() - began, figures,
        {"digits": sha256(repr([pictures(seed).train.labels.tolist() for seed in seeds]).encode())},
    )  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """A width and a rate, with what was measured of its replicas; trace, connected and alike of both pairs."""

    width: int
    rate: float
    trace: tuple[float, float]  # log10
    connected: tuple[float, float]  # mode connectivity, in nats
    alike: tuple[float, float]  # CKA
    top: float  # largest eigenvalue
    loss: float  # of training, in nats
    accuracy: float
    gain: float  # points of accuracy, as the next two
    random_order: float
    epochs: float


def population(
    split: Split, width: int, rates: Sequence[float], *, epochs: int, bends: int, probes: int, seed: int
) -> list[Setting]:
    """Steps 1, 2 and 5 of one width."""
    x, y = split.train.pixels.flatten(1), split.train.labels
    new, labels = split.judge.pixels.flatten(1), split.judge.labels
    many = len(rates) * REPLICAS
    start = fresh(many, width, SIDE * SIDE, CLASSES, seed=1000 * seed + width)
    rate = torch.tensor(rates).repeat_interleave(REPLICAS)
    last, late = trained(start, x, y, rate=rate, epochs=epochs, batch=32, seed=seed)
    trace, top = hessian(last, x[:CURVED], y[:CURVED], probes=probes, steps=probes, seed=seed)
    replica = [last.some(torch.arange(number, many, REPLICAS)) for number in range(REPLICAS)]
    pairs = [(replica[0], replica[1]), (replica[2], replica[3])]
    connected = torch.stack([connectivity(a, curve(a, b, x, y, steps=bends, seed=seed), b, x, y) for a, b in pairs], 1)
    alike = torch.stack([cka(a.logits(new), b.logits(new)) for a, b in pairs], 1)
    draw = torch.Generator().manual_seed(seed)
    order = [torch.rand(len(rates), width, generator=draw).argsort(1) for _ in replica]
    own = last.accuracy(new, labels).view(-1, REPLICAS)
    right = merged(replica).accuracy(new, labels)
    wrong = averaged([ordered(one, how) for one, how in zip(replica, order, strict=True)]).accuracy(new, labels)
    logs = trace.clamp_min(1e-12).log10().view(-1, 2, 2).mean(2)
    columns = {
        "top": top.view(-1, REPLICAS).mean(1), "loss": last.loss(x, y).view(-1, REPLICAS).mean(1), "accuracy": own.mean(1),
        "gain": 100 * (right - own.mean(1)), "random_order": 100 * (wrong - own.mean(1)),
        "epochs": 100 * (late.accuracy(new, labels).view(-1, REPLICAS) - own).mean(1),
    }  # fmt: skip
    return [
        Setting(
            width, one, _two(logs[at]), _two(connected[at]), _two(alike[at]),
            **{name: float(values[at]) for name, values in columns.items()},
        )
        for at, one in enumerate(rates)
    ]  # fmt: skip


def _two(pair: Tensor) -> tuple[float, float]:
    first, second = pair.tolist()
    return first, second


def _measured(settings: Sequence[Setting], seed: int) -> dict[str, float]:
    """Steps 3 to 6."""
    pairs = {name: torch.tensor([getattr(one, name) for one in settings]) for name in NAMES if name in PAIRED}
    column = {name: torch.tensor([getattr(one, name) for one in settings]) for name in NAMES if name not in PAIRED}
    column |= {name: both.mean(1) for name, both in pairs.items()}
    limits = thresholds(column)
    phase = phases(column, limits)
    first, second = (phases({name: both[:, side] for name, both in pairs.items()}, limits) for side in (0, 1))
    four = phase >= PHASES.index("IV-A")
    draw = torch.Generator().manual_seed(seed)
    anew = [torch.randperm(len(phase), generator=draw) for _ in range(DEALT)]
    within, across = spreads(column["accuracy"], phase)
    found = {
        "settings whose pairs show one phase": _share(first == second),
        "settings whose pairs show one phase, dealt out anew": _share(torch.stack([first == second[one] for one in anew])),
        "phases that occur": float(len(phase.unique())),
        "gain, phase IV": _mean(column["gain"], four),
        "gain, other phases": _mean(column["gain"], ~four),
        "gain, phase IV, random order": _mean(column["random_order"], four),
        "gain of the last epochs, phase IV": _mean(column["epochs"], four),
        "gain of the last epochs, other phases": _mean(column["epochs"], ~four),
        "spread of accuracy within phases": within,
        "spread of accuracy across phases": across,
        "spread of accuracy across, dealt out anew": sum(spreads(column["accuracy"], phase[one])[1] for one in anew) / DEALT,
    }
    for number, name in enumerate(PHASES):
        if (phase == number).any():
            found[f"settings, phase {name}"] = float((phase == number).sum())
            found |= {f"{said}, phase {name}": _mean(column[what], phase == number) for what, said in NAMES.items()}
    for one, number in zip(settings, phase.tolist(), strict=True):
        found |= {
            f"{what}, width {one.width}, rate {one.rate}": value
            for what, value in (("phase (1 to 5)", number + 1.0), ("gain", one.gain))
        }
    return found


def thresholds(metric: Mapping[str, Float[Tensor, " c"]]) -> dict[str, float]:
    """Step 3: what parts sharp from flat, and alike from not."""
    sharp = parting(metric["trace"])
    four = (metric["connected"] >= -BARRIER) & (metric["trace"] <= sharp)
    return {"trace": sharp, "alike": parting(metric["alike"][four]) if int(four.sum()) > 1 else 1.0}


def phases(metric: Mapping[str, Float[Tensor, " c"]], limits: Mapping[str, float]) -> Int[Tensor, " c"]:
    """Each setting's phase, as a place in PHASES."""
    connected = (metric["connected"] >= -BARRIER).long()
    flat = 2 + connected * (1 + (metric["alike"] > limits["alike"]).long())
    return torch.where(metric["trace"] > limits["trace"], connected, flat)


def parting(values: Float[Tensor, " c"]) -> float:
    """The threshold that parts numbers in two with the least squared distance from the means of the two."""
    x = values.double().sort().values

    def cost(at: int) -> float:
        return float(sum((side - side.mean()).square().sum() for side in (x[:at], x[at:])))

    at = min(range(1, len(x)), key=cost)
    return float((x[at - 1] + x[at]) / 2)


def spreads(values: Float[Tensor, " c"], phase: Int[Tensor, " c"]) -> tuple[float, float]:
    """(within phases, across them): the roots of the two mean squares of an analysis of variance; 0 where there is none."""
    names, at, count = phase.unique(return_inverse=True, return_counts=True)
    mean = torch.zeros(len(names)).index_add_(0, at, values) / count
    inner = (values - mean[at]).square().sum() / max(1, len(values) - len(names))
    outer = (count * (mean - values.mean()).square()).sum() / max(1, len(names) - 1)
    return float(inner.sqrt()), float(outer.sqrt())


def _mean(values: Float[Tensor, " c"], where: Bool[Tensor, " c"]) -> float:
    """0 where there is none, which reaches no bar."""
    return float(values[where].mean()) if where.any() else 0.0


def _share(holds: Bool[Tensor, "..."]) -> float:
    return float(holds.float().mean())
