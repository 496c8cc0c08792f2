"""Layers that a token passes unchanged are found by L2 adaptive computation (LAC), and can be skipped. Shemiranifar 2025, "Void
in Language Models" (arXiv:2505.14467), on a model whose idle layers are known.

    1. Train the deep model of `organisms/idle_layers.py`: at tokens of the prompt, of the response or of both, some layers
       idle, and working layers lengthen the stream by a planted factor.
    2. LAC with the paper's alpha says, of each token, which layers are voids (`scores/subject/void_layers.py` tells how). Its
       F1 against the truth, over tokens and layers, and by layer: a layer is said to idle in the prompt, or in the response,
       where it is a void for most tokens of it.
    3. Skip the voids: a token leaves each of its voids as it came. The accuracy of the response against that of the whole
       model (the paper's comparison, and the baseline).
    4. Control: as many layers of each token, drawn at random. A stricter one: each layer skipped as often, at other tokens.
    5. Where the claim ends, beside it: F1 at other alphas and with the span that the authors' code takes; and all of it of
       models whose working layers lengthen the stream less, or only as training made them.

LAC looks for layers that lengthen the stream little, so it finds idle ones where working ones lengthen it clearly, which is
planted here. Where they lengthen it half as much, or as training has it, voids cost more than a point (LOG.md). `holds` speaks
of the planted growth alone.

Letters: b sequences, t tokens, l layers.
"""

import time
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from actscope.core.change import Change
from actscope.core.progress import Progress, quiet
from actscope.core.reproduction import Reproduction
from actscope.core.subject import Subject
from actscope.organisms.idle_layers import Trained, World, idle_layers
from actscope.reproductions._parts.seeds import beyond, gathered, means
from actscope.scores._parts.passages import layers
from actscope.scores._parts.voids import drawn, elsewhere, skipping, voids

__all__ = ["voids_lac"]

CLAIM = (
    "LAC flags the layers that idle, token by token (F1 of at least 0.9); skipping them keeps the accuracy within 1 point, and "
    "skipping as many layers at random loses at least 10."
)
BAR, KEPT, LOST = 0.9, 0.01, 0.1
ALPHA = 0.8  # the paper's
OTHERS = (0.3, 0.5, 0.95)  # values of alpha that are reported beside


def voids_lac(
    *,
    seeds: Sequence[int] = (0, 1, 2),
    growths: Sequence[float | None] = (2.0, 1.0, None),
    rows: int = 12_800,
    judged: int = 400,
    full: bool = False,
    progress: Progress = quiet,
) -> Reproduction:
    """Voids of a model whose idle layers are known: found, and skipped (Shemiranifar 2025, arXiv:2505.14467).

    seeds: of the model and its sequences. growths: length of a working layer's update, in lengths of the stream; None: as
    training makes it; the first is judged, the others are reported. rows: sequences trained on; judged: sequences judged on.
    full: five seeds and 1,000 sequences. holds: in every seed F1 reaches its bar, skipping voids loses at
    most a point and skipping at random at least ten; and over seeds (95%, Student's t) the accuracy with voids skipped is
    beyond that with random ones.
    """
    began = time.monotonic()
    if full:
        seeds, judged = tuple(range(5)), 1000
    found: list[dict[str, float]] = []
    for number, seed in enumerate(seeds):
        progress(number, len(seeds), f"seed {seed}")
        found.append(_judged(idle_layers(seed, rows=rows, growth=growths[0]), judged, seed))
        for growth in growths[1:]:
            beside = _judged(idle_layers(seed, rows=rows, growth=growth), judged, seed)
            of = "learned growth" if growth is None else f"growth {growth}"
            found[-1] |= {f"{name}, {of}": value for name, value in beside.items()}
    progress(len(seeds), len(seeds), "seeds")
    figures = gathered(found)
    mean = means(figures)
    whole, skipped, random = (figures[name] for name in ("whole", "voids skipped", "random skipped"))
    holds = (
        min(figures["F1"]) >= BAR
        and max(a - b for a, b in zip(whole, skipped, strict=True)) <= KEPT
        and min(a - b for a, b in zip(whole, random, strict=True)) >= LOST
        and beyond(skipped, random)
    )
    return Reproduction(
        "voids-lac", CLAIM, mean["voids skipped"], mean["whole"], mean["random skipped"], "accuracy of the response's symbols",
        tuple(seeds), holds, time.monotonic() - began, figures, {},
    )  # fmt: skip


@torch.no_grad()
def _judged(trained: Trained, judged: int, seed: int) -> dict[str, float]:
    """Steps 2 to 4, and F1 otherwise, of one model."""
    subject, world = trained
    ids = world.sequences(judged, seed=1_000_000 + seed)
    before, after = layers(subject, "resid_pre"), layers(subject, "resid_post")
    acts = subject.run(ids, read=[before[0], *after]).acts
    lengths = torch.stack([acts[site].norm(dim=-1) for site in (before[0], *after)], -1)
    void, idle = voids(lengths, ALPHA), world.idles(ids)
    draw = torch.Generator().manual_seed(seed)
    everywhere = torch.ones(ids.shape, dtype=torch.bool)
    skips = {"voids": void, "random": drawn(void, draw), "elsewhere": elsewhere(void, everywhere, draw), "idle layers": idle}
    said = torch.stack([void[part].float().mean(0) > 0.5 for part in (~world.responds(ids), world.responds(ids))])
    found = {
        "F1": f1(void, idle),
        "F1 by layer": f1(said, world.idle),
        "void share, prompt": float(void[~world.responds(ids)].float().mean()),
        "void share, response": float(void[world.responds(ids)].float().mean()),
        **{f"F1 at alpha {alpha}": f1(voids(lengths, alpha), idle) for alpha in OTHERS},
        "F1, span before the layer": f1(voids(lengths, ALPHA, own=False), idle),
        "F1 of random layers": f1(drawn(void, draw), idle),
        "whole": accuracy(subject, world, ids),
    }
    for name, skip in skips.items():
        changed = subject.changed(Change(skipping(before, after, skip), origin=f"{name} skipped"))
        found[f"{name} skipped"] = accuracy(changed, world, ids)
    return found


def accuracy(subject: Subject, world: World, ids: Int[Tensor, "b t"]) -> float:
    """The share of the response's symbols that the subject finds most probable, each after the right ones."""
    logits = subject.run(ids).logits
    assert logits is not None, "a language model has logits"
    return float((logits[:, world.length : -1].argmax(-1) == ids[:, world.length + 1 :]).float().mean())


def f1(said: Bool[Tensor, "..."], true: Bool[Tensor, "..."]) -> float:
    """2 x right / (said + true); 1 where neither holds anywhere."""
    total = int(said.sum() + true.sum())
    return 2 * int((said & true).sum()) / total if total else 1.0
