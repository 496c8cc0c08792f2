"""Sinks inside the text are taken away by a loss on their cosine with the first token. Anand et al. 2025, "Mitigating Attention
Sinks and Massive Activations in Audio-Visual Speech Recognition with LLMs" (arXiv:2510.22603), on a small language model whose
sinks are planted.

    1. The model of `organisms/planted_sinks.py`: its first token, and a mark inside the text, are sinks with massive
       activations in one dimension. The paper's models grow such sinks inside the text while they are fine-tuned on speech;
       here they stand before, planted.
    2. Fine-tune on text with marks, whose words follow each other otherwise than before: with the loss
       (`adaptation/sink_decorrelation.py`), and without it, which is the baseline.
    3. Sinks by attention: tokens after the first that some head of some layer pays, on average over the tokens that see them,
       more than epsilon = 0.3. Sinks by massive activations: tokens after the first with a number at least 100 times the median
       (the paper: 1,000). Both as means over sequences. And the largest number after the first token over the median one, at
       the layer where that is largest.
    4. The task: nats a word on text not trained on.
    5. Control: the same loss with the cosine of another token, the sixth, in place of the first.

The weight, a tenth of the paper's, was chosen on a seed that is not judged, by the task's loss.
Letters: b sequences, h heads, t tokens, d width.
"""

import math
import time
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from actscope.adaptation.sink_decorrelation import sink_decorrelation
from actscope.core.progress import Progress, quiet
from actscope.core.reproduction import Reproduction
from actscope.core.site import Site
from actscope.core.subject import Subject
from actscope.organisms.planted_sinks import LENGTH, MARK, Sequences, World, planted_sinks
from actscope.reproductions._parts.seeds import beyond, gathered, means
from actscope.scores._parts.passages import layers
from actscope.scores._parts.sinks import LATER, massive, received
from actscope.training.plan import Plan
from actscope.training.shuffled import Shuffled

__all__ = ["avsr_sinks"]

CLAIM = (
    "Fine-tuning with the decorrelation loss cuts sinks after the first token and the largest activation there at least 5 "
    "times, with a task loss no worse; fine-tuning without it does not."
)
FACTOR, WORSE = 5.0, 0.01  # how many times less; nats a word that count as no worse
EPSILON, TIMES = 0.3, 100.0  # attention of a sink; of a massive activation, in medians
WEIGHT = 1000.0
ELSEWHERE = 5  # the position that the control takes in place of the first
_POOL = 2048  # sequences fine-tuned on


def avsr_sinks(
    *,
    seeds: Sequence[int] = (0, 1, 2),
    rows: int = 3_200,
    tuned: int = 4_800,
    judged: int = 200,
    weight: float = WEIGHT,
    full: bool = False,
    progress: Progress = quiet,
) -> Reproduction:
    """Sinks inside the text, before and after fine-tuning with the decorrelation loss and without (Anand et al. 2025,
    arXiv:2510.22603).

    seeds: of the model, its language and the text. rows: sequences of pretraining; tuned: of fine-tuning; judged: sequences
    judged on. weight: of the loss. full: five other seeds, twice the pretraining, four times the fine-tuning. holds: in every
    seed the loss cuts sinks of both kinds and the largest activation to a fifth of what they were before or less, fine-tuning
    without it and the control do not, and the task's loss is at most 0.01 nats above that without it; and over seeds (95%,
    Student's t) the logarithm of the largest activation without it, and that of the control, are beyond that with it, for the
    claim is a factor.
    """
    began = time.monotonic()
    if full:
        seeds, rows, tuned = tuple(range(3, 8)), 2 * rows, 4 * tuned
    found: list[dict[str, float]] = []
    for number, seed in enumerate(seeds):
        progress(number, len(seeds), f"seed {seed}")
        found.append(_measured(seed, rows, tuned, judged, weight))
    progress(len(seeds), len(seeds), "seeds")
    figures = gathered(found)
    mean = means(figures)
    ours, plain, control = (
        [math.log(x) for x in figures[f"largest, {of}"]] for of in ("decorrelated", "tuned alone", "from another token")
    )
    worse = [a - b for a, b in zip(figures["loss, decorrelated"], figures["loss, tuned alone"], strict=True)]
    holds = (
        all(
            _cut(one, of) == (of == "decorrelated")
            for one in found
            for of in ("decorrelated", "tuned alone", "from another token")
        )
        and max(worse) <= WORSE
        and beyond(plain, ours)
        and beyond(control, ours)
    )
    return Reproduction(
        "avsr-sinks", CLAIM, mean["largest, decorrelated"], mean["largest, tuned alone"], mean["largest, from another token"],
        "largest activation after the first token, in medians", tuple(seeds), holds, time.monotonic() - began, figures, {},
    )  # fmt: skip


def _cut(found: dict[str, float], of: str) -> bool:
    """Whether sinks of both kinds and the largest activation fell to a fifth or less."""
    return all(FACTOR * found[f"{what}, {of}"] <= found[f"{what}, before"] for what in ("sinks", "massive tokens", "largest"))


def _measured(seed: int, rows: int, tuned: int, judged: int, weight: float) -> dict[str, float]:
    subject, world = planted_sinks(seed, rows=rows)
    text = world.sequences(_POOL, seed=2_000_000 + seed, marked=True)
    source = Shuffled(text, {"marked": seed})
    plan = Plan(rows=tuned, batch=32, lr=1e-3, decay=0.5, seed=seed)
    ways = {"decorrelated": (weight, 0), "tuned alone": (0.0, 0), "from another token": (weight, ELSEWHERE)}
    held = world.sequences(judged, seed=1_000_000 + seed, marked=True)
    found = judge(subject, world, held, "before")
    for of, (weighs, anchor) in ways.items():
        change = sink_decorrelation(subject, source, plan, weight=weighs, anchor=anchor)
        found |= judge(subject.changed(change), world, held, of)
    return found


@torch.no_grad()
def judge(subject: Subject, world: World, held: Sequences, of: str) -> dict[str, float]:
    """Steps 3 and 4 of one model, each figure's name followed by `of`."""
    stream, maps, logits = layers(subject, "resid_post"), layers(subject, "attn_pattern"), Site("logits")
    acts = subject.run(held.ids, read=[*stream, *maps, logits]).acts
    everywhere = torch.ones(held.ids.shape, dtype=torch.bool)
    paid = torch.cat([received(acts[site], everywhere)[0] for site in maps], 1)  # [b h t], the heads of all layers
    after = (torch.arange(LENGTH) > 0) & (torch.arange(LENGTH) <= LENGTH - LATER)
    huge = torch.stack([massive(acts[site], everywhere, TIMES) for site in stream])  # [l b t d]
    mark = held.ids == MARK
    said = acts[logits]
    right = (said.argmax(-1) == held.targets)[world.copies(held)]
    cosines = [functional.cosine_similarity(acts[site][mark], acts[site][:, 0], dim=-1).mean() for site in stream[:-1]]
    found = {
        "loss": functional.cross_entropy(said.flatten(0, 1), held.targets.flatten()),
        "copies right": right.float().mean(),
        "sinks": ((paid > EPSILON).any(1) & after).sum(1).float().mean(),
        "massive tokens": huge.any(-1).any(0)[:, 1:].sum(1).float().mean(),
        "massive dimensions": huge.any(0).any(0).any(0).sum(),
        "largest": torch.stack([_largest(acts[site], ~first_only(held)) for site in stream]).max(),
        "largest at the first token": torch.stack([_largest(acts[site], first_only(held)) for site in stream]).max(),
        "attention to the mark": paid.amax(1)[mark].mean(),
        "attention to the first token": paid[:, :, 0].amax(1).mean(),
        "cosine of mark and first token": torch.stack(cosines).mean(),
    }
    return {f"{name}, {of}": float(value) for name, value in found.items()}


def first_only(held: Sequences) -> Bool[Tensor, "b t"]:
    """The first token of every sequence."""
    return (torch.arange(held.ids.shape[1]) == 0).expand(held.ids.shape)


def _largest(x: Float[Tensor, "b t d"], where: Bool[Tensor, "b t"]) -> Float[Tensor, ""]:
    """The largest size there over the sequence's median, averaged over sequences."""
    size = x.abs()
    top = size.amax(-1).masked_fill(~where, 0).amax(1)
    return (top / size.flatten(1).median(1).values).mean()
