"""Word classes emerge in a network that predicts words. Surendra et al. 2023, "Word class representations spontaneously emerge
in a deep neural network trained on next word prediction" (arXiv:2302.07588).

    1. A phrase-structure grammar with nine word classes, in which the class of the next word follows from the words before but
       not from the last one alone. Train a small transformer to predict its next word.
    2. On sentences kept out: the generalized discrimination value (GDV) of hidden vectors by the class of the next word, from
       the embeddings to the last layer. 0: mixed; -1: apart.
    3. Cluster the last layer's vectors by k-means, as many clusters as classes; their agreement with the classes is the
       adjusted Rand index (ARI).
    4. Baseline: the same of the same network before training. Controls: permuted labels (GDV and ARI).

Letters: n vectors, d width.
"""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from actscope.core.labels import Labels
from actscope.core.progress import Progress, quiet
from actscope.core.reproduction import Reproduction
from actscope.core.site import Port
from actscope.dictionaries.kmeans import KMeans
from actscope.reproductions._parts.agreement import adjusted_rand
from actscope.reproductions._parts.phrases import CLASSES, held, trained
from actscope.reproductions._parts.planted import store_of
from actscope.reproductions._parts.seeds import beyond, gathered, means
from actscope.scores._parts.passages import Passages, read
from actscope.scores.subject.word_classes import word_classes
from actscope.subjects.hf import HFSubject
from actscope.training.fit import fit
from actscope.training.plan import Plan

__all__ = ["word_class"]

CLAIM = (
    "Hidden vectors of a next-word predictor stand apart by the class of the next word (GDV), more so the deeper the layer and "
    "not before training, and k-means finds the classes with an adjusted Rand index of at least 0.6."
)
BAR, NEAR = 0.6, -0.1  # of the ARI; above it a GDV counts as near zero
LAYERS = 3


def word_class(
    *,
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 300,
    width: int = 48,
    texts: int = 150,
    full: bool = False,
    progress: Progress = quiet,
) -> Reproduction:
    """Classes of the next word in hidden vectors, after training and before (Surendra et al. 2023, arXiv:2302.07588).

    seeds: of the network, the training text and the text judged on. steps: of training; width: of the network; texts: sequences
    judged on. full: five seeds, twice the steps. holds: in every seed the ARI reaches its bar, GDV falls from embeddings to the
    last layer, and that of the untrained network's last layer is near zero; over seeds (95%, Student's t) the ARI is beyond
    both the untrained network's and that of permuted labels.
    """
    began = time.monotonic()
    if full:
        seeds, steps = tuple(range(5)), 2 * steps
    found: list[dict[str, float]] = []
    for number, seed in enumerate(seeds):
        progress(number, len(seeds), f"seed {seed}")
        passages, labels = held(texts, seed=seed)
        after = _judged(trained(width=width, layers=LAYERS, heads=4, steps=steps, seed=seed), passages, labels, seed)
        before = _judged(trained(width=width, layers=LAYERS, heads=4, steps=0, seed=seed), passages, labels, seed)
        found.append({**after, **{f"untrained {name}": value for name, value in before.items()}})
    progress(len(seeds), len(seeds), "seeds")
    figures = gathered(found)
    mean = means(figures)
    last = f"GDV layer {LAYERS - 1}"
    holds = (
        min(figures["ARI"]) >= BAR
        and beyond(figures["GDV embeddings"], figures[last])
        and min(figures[f"untrained {last}"]) > NEAR
        and beyond(figures["ARI"], figures["untrained ARI"], figures["ARI permuted"])
    )
    return Reproduction(
        "word-class", CLAIM, mean["ARI"], mean["untrained ARI"], mean["ARI permuted"], "adjusted Rand index", tuple(seeds),
        holds, time.monotonic() - began, figures, {},
    )  # fmt: skip


def _judged(subject: HFSubject, passages: Passages, labels: Labels, seed: int) -> dict[str, float]:
    """Steps 2 to 4 of one network."""
    _, *scores = word_classes(subject, passages, labels=labels, classes=list(CLASSES), most=100, seed=seed)
    names = ["embeddings", *(f"layer {number}" for number in range(LAYERS))]
    found = {f"GDV {name}": score.value for name, score in zip(names, scores, strict=True)}
    found["GDV permuted"] = scores[-1].control or 0.0
    x, kind = _vectors(subject, passages, labels)
    port = Port.parse(f"layers.{LAYERS - 1}.resid_post")
    means_ = KMeans(reads={port: x.shape[1]}, n_latents=len(CLASSES), seed=seed)
    clusters = fit(means_, store_of({port: x}, name=f"vectors {seed}"), Plan(batch=len(x))).encode(x).index.long()
    shuffled = kind[torch.randperm(len(kind), generator=torch.Generator().manual_seed(seed))]
    return {**found, "ARI": adjusted_rand(clusters, kind), "ARI permuted": adjusted_rand(clusters, shuffled)}


def _vectors(subject: HFSubject, passages: Passages, labels: Labels) -> tuple[Tensor, Tensor]:
    """(the last layer's vector of every token that is followed, the class of what follows)."""
    (batch,) = passages.batches
    site = next(site for site in reversed(subject.order) if site.kind == "resid_post")
    x = read(subject, batch, [site])[site][:, 1:-1].flatten(0, 1)
    holds = labels.at(batch.where[:, 2:].flatten(0, 1))
    return x, torch.stack([holds[name] for name in CLASSES], 1).long().argmax(1)
