"""The rank of representations falls, rises and falls again as a language model is trained. Li, Agrawal, Ghosh et al. 2025,
"Tracing the Representation Geometry of Language Models from Pretraining to Post-training" (arXiv:2509.23024).

    1. The paper's theory: three phases follow from cross-entropy, tokens of unequal frequency and a bottleneck, d << v. So a
       small transformer learns a language that has these and little else (_parts/zipf.py), and is kept at steps that grow by a
       third each time.
    2. RankMe at every checkpoint (scores/subject/geometry.py) of the last tokens of documents kept out, after the last norm, as
       in the paper's code; and of the stream before that norm.
    3. Phases: of all checkpoints, the lowest and a later highest for which the least of the three changes (the fall to the one,
       the rise to the other, the fall from there to the end) is largest. That least change, as a share of RankMe, is the
       figure: below 0.02 there are not three phases.
    4. Baseline: the same with tokens all as frequent. Control: the same without a bottleneck, d = v. The theory says that each
       lacks a phase.
    5. Beside it the checkpoints of pocket-mini, a transformer of 64 dimensions trained on text, of one seed.

Letters: v vocabulary, d width.
"""

import math
import time
from collections.abc import Sequence
from typing import NamedTuple

from actscope.core.progress import Progress, quiet
from actscope.core.reproduction import Reproduction
from actscope.organisms.grammar import grammar
from actscope.reproductions._parts.seeds import beyond, gathered, means
from actscope.reproductions._parts.zipf import checkpoints, language
from actscope.scores._parts.passages import Passages
from actscope.scores.subject.geometry import geometry
from actscope.subjects.load import checkpoints as known
from actscope.subjects.load import load

__all__ = ["repr_geometry"]

CLAIM = (
    "With tokens of Zipf frequency and a bottleneck, RankMe of the features falls, rises and falls again over training, by at "
    "least 2% each; with tokens all as frequent, or without the bottleneck, one of the three phases is missing."
)
BAR = 0.02
LONG = 8000  # steps of a full run; the last phase comes late
VOCABULARY, WIDTH, WIDE = 64, 8, 64
SPOKEN = {"topics": 4, "sharpness": 1.0, "topical": 1.0}
SITES = ("final_norm", "layers.0.resid_post")
REGIMES = {"Zipf": (1.0, WIDTH), "balanced": (0.0, WIDTH), "wide": (1.0, WIDE)}  # skew, d


def repr_geometry(
    *,
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 1200,
    batch: int = 16,
    lr: float = 0.01,
    documents: int = 400,
    full: bool = False,
    progress: Progress = quiet,
) -> Reproduction:
    """RankMe over training, in three regimes (Li et al. 2025, arXiv:2509.23024).

    seeds: of the language, the model and the text. steps: of training, of `batch` documents each; lr: of Adam, constant.
    documents: whose last tokens RankMe is measured on. full: 8000 steps. holds: in every seed the least
    of the three changes reaches 0.02 with Zipf frequencies and a bottleneck and does not without either, and over seeds it is
    larger (95%, Student's t).
    """
    began = time.monotonic()
    if full:
        steps = LONG
    found: list[dict[str, float]] = []
    for number, seed in enumerate(seeds):
        one: dict[str, float] = {}
        for place, regime in enumerate(REGIMES):
            progress(3 * number + place, 3 * len(seeds), f"seed {seed}, {regime}")
            for site, curve in _curves(regime, steps, batch, lr, documents, seed).items():
                what = regime if site == "final_norm" else f"{regime} before the norm"
                one |= {f"{name}, {what}": value for name, value in phases(curve)._asdict().items()}
        found.append(one)
    progress(3 * len(seeds), 3 * len(seeds), "seeds")
    figures = gathered(found)
    figures |= {f"{name}, pocket-mini": (value,) for name, value in phases(_of_pocket_mini(documents))._asdict().items()}
    mean = means(figures)
    least = [figures[f"least, {regime}"] for regime in REGIMES]
    holds = min(least[0]) >= BAR > max(*least[1], *least[2]) and beyond(*least)
    return Reproduction(
        "repr-geometry", CLAIM, mean["least, Zipf"], mean["least, balanced"], mean["least, wide"],
        "least of three changes of RankMe, as a share", tuple(seeds), holds, time.monotonic() - began, figures, {},
    )  # fmt: skip


def _curves(regime: str, steps: int, batch: int, lr: float, documents: int, seed: int) -> dict[str, list[float]]:
    """RankMe at every checkpoint, by site."""
    skew, width = REGIMES[regime]
    spoken = language(VOCABULARY, skew=skew, seed=seed, **SPOKEN)
    subjects = checkpoints(spoken, width=width, layers=1, heads=2, steps=steps, batch=batch, lr=lr, seed=seed).values()
    passages = Passages.of(next(iter(subjects)), spoken.corpus(documents, seed=seed))
    found = [{score.name: score.value for score in geometry(one, passages, sites=SITES, rows="last")} for one in subjects]
    return {site: [one[f"rankme:{site}"] for one in found] for site in SITES}


def _of_pocket_mini(documents: int) -> list[float]:
    """RankMe at every checkpoint of a model trained on the grammar and on real text."""
    subjects = [load(name) for _, name in known("pocket-mini")]
    passages = Passages.of(subjects[0], grammar(0, documents, split="test"))
    return [geometry(one, passages, sites=["final_norm"], rows="last")[0].value for one in subjects]


class Phases(NamedTuple):
    """RankMe at the start, where it is lowest, highest and in the end; least: the smallest of the three changes, as the
    logarithm of a ratio, below 0 where there are not even three."""

    start: float
    low: float
    high: float
    end: float
    least: float


def phases(curve: Sequence[float]) -> Phases:
    """Step 3."""
    start, end = curve[0], curve[-1]
    pairs = [(low, high) for place, low in enumerate(curve) for high in curve[place + 1 :]]

    def least(low: float, high: float) -> float:
        return min(math.log(start / low), math.log(high / low), math.log(high / end))

    low, high = max(pairs, key=lambda pair: (least(*pair), pair[1] / pair[0]))
    return Phases(start, low, high, end, least(low, high))
