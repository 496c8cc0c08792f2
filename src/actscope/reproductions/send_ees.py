"""Sensitivity dropout and the efficient EigenScore. Mohammadzadeh et al. 2024, "Hallucination Detox: Sensitivity Dropout (SenD)
for Large Language Model Training" (arXiv:2410.15460).

    1. EigenScores of vectors that agree more or less, exact and efficient (scores/_parts/logdet.py): their correlation, and how
       many times faster the efficient one is. As in the paper's code the exact one takes eigenvalues and eigenvectors of the
       covariance; beside it eigenvalues alone, and the determinant by Cholesky, which is exact too and which the paper does not
       compare with.
    2. A small language model knows some facts (_parts/memorised.py). It is trained on with new ones, at one rate throughout, by
       sensitivity dropout (adaptation/sensitive_dropout.py), plainly (the baseline), and with as many coordinates dropped at
       random (the control), on the same rows in the same order. The rate is that at which plain training ends with the
       least error, of a few, with another seed.
    3. At every checkpoint, with nothing dropped: the share of new facts answered wrongly, and the EigenScore of drawn answers.
       Variance is that of the later half of the checkpoints about their own line, so that learning is no variance.

The paper freezes early layers while it trains; here all are trained.
Letters: k answers, d width, c checkpoints.
"""

import statistics
import time
from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from actscope.adaptation.sensitive_dropout import sensitive_dropout
from actscope.core.progress import Progress, quiet
from actscope.core.reproduction import Reproduction
from actscope.core.site import Site
from actscope.reproductions._parts.agreeing import agreeing, by_eigenvalues, times_faster
from actscope.reproductions._parts.memorised import Facts, answers, asked, base, error, facts, source
from actscope.reproductions._parts.seeds import beyond, gathered, means
from actscope.scores._parts.logdet import mean_log_eigenvalue, mean_log_eigenvalue_estimated
from actscope.subjects.hf import HFSubject

__all__ = ["send_ees"]

CLAIM = (
    "The efficient EigenScore follows the exact one (r >= 0.95) and is at least twice as fast at large matrices; facts learned "
    "with sensitivity dropout have a lower error in the end, and one that varies less between checkpoints, than plainly."
)
FOLLOWS, FASTER = 0.95, 2.0
A = 1e-3
LAYERS, WIDTH = 3, 32
SITE = Site("resid_post", LAYERS - 2)
RATES = (1e-3, 2e-3, 4e-3, 8e-3)
RATE = 2e-3  # that a full run chose
TUNING = 1000  # seed of the facts that the rate is chosen with
TRACKED = 80  # known facts whose vectors say what is sensitive
REGIMES = {"SenD": {}, "plain": {"share": 0.0}, "random dropout": {"choice": "random"}}


def send_ees(
    *,
    seeds: Sequence[int] = (0, 1, 2),
    learned: int = 300,
    intervals: int = 12,
    steps: int = 15,
    sizes: Sequence[tuple[int, int]] = ((1000, 1024),),
    shown: int = 12,
    rounds: int = 3,
    full: bool = False,
    progress: Progress = quiet,
) -> Reproduction:
    """Facts learned with sensitivity dropout and without, and EigenScores exact and efficient (Mohammadzadeh et al. 2024,
    arXiv:2410.15460).

    seeds: of facts, model and order. learned: steps on known facts; intervals, steps: of training on new ones. sizes: answers
    and coordinates of the EigenScores; shown: of each size, to correlate; rounds: of timing. full: five seeds,
    up to 2000 answers, nine rounds, and the rate chosen anew (else that which such a run chose). ours, baseline and
    control: the error in the end. holds: the correlation and the speed against all eigenvalues and eigenvectors reach their
    bars at every size; in every seed the error in the end and its variance are below plain training's, and over seeds (95%,
    Student's t).
    """
    began = time.monotonic()
    rate = RATE
    if full:
        seeds, rounds = tuple(range(5)), 9
        sizes = ((500, 768), (1000, 1024), (2000, 2048))
        tuning = _begun(TUNING, learned)
        rate = min(RATES, key=lambda one: _trained(tuning, "plain", intervals, steps, one, TUNING)["error, plain"])
    progress(0, len(seeds) + 1, "EigenScores")
    speed = {name: value for k, d in sizes for name, value in efficiency(k, d, shown, rounds).items()}
    found: list[dict[str, float]] = []
    for number, seed in enumerate(seeds):
        progress(number + 1, len(seeds) + 1, f"seed {seed}")
        begun = _begun(seed, learned)
        regimes = [_trained(begun, regime, intervals, steps, rate, seed) for regime in REGIMES]
        found.append({name: value for one in regimes for name, value in one.items()} | {"rate": rate})
    progress(len(seeds) + 1, len(seeds) + 1, "seeds")
    figures = gathered(found)
    mean = means(figures)
    enough = all(value >= (FOLLOWS if name.startswith("r ") else FASTER) for name, value in speed.items() if "than" not in name)
    better = all(beyond(figures[f"{what}, plain"], figures[f"{what}, SenD"]) for what in ("error", "variance of the error"))
    return Reproduction(
        "send-ees", CLAIM, mean["error, SenD"], mean["error, plain"], mean["error, random dropout"],
        "share of new facts answered wrongly", tuple(seeds), enough and better, time.monotonic() - began,
        {**figures, **{name: (value,) for name, value in speed.items()}}, {},
    )  # fmt: skip


def efficiency(k: int, d: int, shown: int, rounds: int) -> dict[str, float]:
    """Step 1 at one size."""
    some = [agreeing(seed, k, d) for seed in range(shown)]
    exact, estimated = ([way(z, A) for z in some] for way in (mean_log_eigenvalue, mean_log_eigenvalue_estimated))
    follows = float(torch.corrcoef(torch.tensor([exact, estimated]))[0, 1])
    ways = {
        "": lambda: by_eigenvalues(some[0], A),
        " than eigenvalues alone": lambda: by_eigenvalues(some[0], A, vectors=False),
        " than the determinant": lambda: mean_log_eigenvalue(some[0], A),
    }
    ratios = {name: times_faster(way, lambda: mean_log_eigenvalue_estimated(some[0], A), rounds) for name, way in ways.items()}
    faster = {f"times faster{name}, {k} x {d}": statistics.median(ratio) for name, ratio in ratios.items()}
    return {f"r with exact, {k} x {d}": follows, **faster}


def _begun(seed: int, steps: int) -> tuple[Facts, HFSubject]:
    """(facts, a model that knows the first half of them)"""
    world = facts(seed)
    return world, base(world.known, width=WIDTH, layers=LAYERS, steps=steps, seed=seed)


def _trained(
    begun: tuple[Facts, HFSubject], regime: str, intervals: int, steps: int, rate: float, seed: int
) -> dict[str, float]:
    """Steps 2 and 3 of one regime."""
    world, subject = begun
    wrong: list[float] = []
    spread: list[float] = []

    def watch(_number: int, now: HFSubject) -> None:
        wrong.append(error(now, world.new))
        spread.append(_eigenscore(now, world.new, seed))

    change = sensitive_dropout(
        subject, source(world.new, "new"), asked(_tracked(world)), intervals=intervals, steps=steps, lr=rate, seed=seed,
        watch=watch, **REGIMES[regime],
    )  # fmt: skip
    return {
        f"error, {regime}": wrong[-1],
        f"variance of the error, {regime}": about_line(wrong[len(wrong) // 2 :]),
        f"EigenScore, {regime}": spread[-1],
        f"variance of the EigenScore, {regime}": about_line(spread[len(spread) // 2 :]),
        f"error on known facts, {regime}": error(subject.changed(change), world.known),
    }


def _tracked(world: Facts) -> Int[Tensor, "n 3"]:
    return world.known[:: len(world.known) // TRACKED]


def _eigenscore(subject: HFSubject, these: Int[Tensor, "n 3"], seed: int) -> float:
    """The mean over facts of that of ten answers each, drawn as Chen et al. 2024 do."""
    z = answers(subject, these[::4], SITE, k=10, temperature=0.5, seed=seed)
    return statistics.mean(mean_log_eigenvalue(one, A) for one in z)


def about_line(values: Sequence[float]) -> float:
    """The mean squared distance from their own straight line."""
    y = torch.tensor(values, dtype=torch.float64)
    x = torch.arange(len(y), dtype=torch.float64)
    x, y = x - x.mean(), y - y.mean()
    slope = (x * y).sum() / x.square().sum().clamp_min(1e-30)
    return float((y - slope * x).square().mean())
