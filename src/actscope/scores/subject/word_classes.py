"""Classes in hidden vectors. Schilling et al. 2021, "Quantifying the separability of data classes in neural networks" (Neural
Networks 139), the generalized discrimination value (GDV); Surendra et al. 2023, "Word class representations spontaneously
emerge in a deep neural network trained on next word prediction" (arXiv:2302.07588), who label a vector with the class of the
next word.

1. Take vectors of a layer at tokens whose next word (or own word) is of one of the classes, equally many of each.
2. z-score each coordinate over them and halve it.
3. Intra: the mean distance between two vectors of a class, averaged over classes. Inter: between vectors of two classes,
   averaged over pairs of classes.
4. GDV = (intra - inter) / sqrt(d): 0 where classes are no closer than all, -1 where they are perfectly apart. It does not
   change when coordinates are shifted, scaled or permuted, nor with the number of coordinates.

Letters: n vectors, d width, c classes, r resamples.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from actscope.core.errors import BadInput
from actscope.core.labels import Labels
from actscope.core.score import Score
from actscope.core.site import Site
from actscope.core.subject import Subject
from actscope.scores._parts.bootstrap import interval, resample
from actscope.scores._parts.cost import Cost
from actscope.scores._parts.discrimination import distances_of, gdv_of
from actscope.scores._parts.passages import Passage, Passages, layers, read

__all__ = ["word_classes"]

COST = Cost("one pass", forward=1)
_DRAWS = 200


def word_classes(
    subject: Subject,
    passages: Passages,
    *,
    labels: Labels,
    classes: Sequence[str],
    ahead: int = 1,
    most: int = 60,
    least: int = 10,
    seed: int = 0,
) -> list[Score]:
    """The generalized discrimination value of word classes at every layer, embeddings first: that of the last layer, then a
    Score a layer (Schilling et al. 2021; Surendra et al. 2023, arXiv:2302.07588).

    labels: causes at (document, position); classes: those that name a class. A token counts where just one of them holds at the
    token `ahead` places on, and, for a class ahead, does not hold already, so that a word's later pieces are left out. most,
    least: vectors of a class; classes with fewer are left out. Control: the same under permuted labels. Interval: bootstrap
    over documents. parts: classes, intra and inter (mean distances over sqrt(d)).
    Raises BadInput where fewer than two classes are left, NotFinite.
    """
    sites = [*(site for site in subject.order if site.kind == "embed"), *layers(subject, "resid_post")]
    kinds, c = _chosen(passages, labels, classes, ahead, most, least, seed)
    found: dict[Site, list[Tensor]] = {site: [] for site in sites}
    for batch, kind in zip(passages, kinds, strict=True):
        acts = read(subject, batch, sites)
        for site in sites:
            found[site].append(acts[site][kind >= 0])
    label = torch.cat([kind[kind >= 0] for kind in kinds])
    where = torch.cat([batch.where[kind >= 0][:, 0] for batch, kind in zip(passages.batches, kinds, strict=True)])
    scores = [_score(str(site), torch.cat(x), label, where, c, seed) for site, x in found.items()]
    return [replace(scores[-1], name="word_classes"), *scores]


def _chosen(
    passages: Passages, labels: Labels, classes: Sequence[str], ahead: int, most: int, least: int, seed: int
) -> tuple[list[Tensor], int]:
    """(Int[b t], the class of every token that is taken, -1 elsewhere, a batch at a time; how many classes are left)."""
    kinds = [_classes(batch, labels, classes, ahead) for batch in passages.batches]
    every = torch.cat([kind.flatten() for kind in kinds])
    kept = [number for number in range(len(classes)) if int((every == number).sum()) >= least]
    if len(kept) < 2:
        raise BadInput(
            f"{len(kept)} of the {len(classes)} classes have {least} tokens of {passages.name} that can be told; expected at "
            "least 2. Give more text, or other classes."
        )
    draw = torch.Generator().manual_seed(seed)
    taken = torch.full_like(every, -1)
    for new, number in enumerate(kept):
        rows = (every == number).nonzero()[:, 0]
        taken[rows[torch.randperm(len(rows), generator=draw)[:most]]] = new
    parts = taken.split([kind.numel() for kind in kinds])
    return [part.reshape(kind.shape) for part, kind in zip(parts, kinds, strict=True)], len(kept)


def _classes(batch: Passage, labels: Labels, classes: Sequence[str], ahead: int) -> Int[Tensor, "b t"]:
    """The number of the class of each token's word, -1 where it has none or several."""
    here = batch.text
    holds = labels.at(torch.where(here[..., None], batch.where, -1).flatten(0, 1))
    none = torch.zeros(here.numel(), dtype=torch.bool)
    own = torch.stack([holds.get(name, none).reshape(here.shape) & here for name in classes], -1)
    shown = own
    if ahead:
        shown = torch.zeros_like(own)
        shown[:, :-ahead] = own[:, ahead:] & ~own[:, :-ahead] & here[:, :-ahead, None]
    return torch.where(shown.sum(-1) == 1, shown.long().argmax(-1), -1)


def _score(site: str, x: Float[Tensor, "n d"], kind: Int[Tensor, " n"], documents: Tensor, c: int, seed: int) -> Score:
    apart = distances_of(x)
    value, intra, inter = gdv_of(apart, kind, c, torch.ones(len(kind)))
    shuffled = kind[torch.randperm(len(kind), generator=torch.Generator().manual_seed(seed))]
    names, place = documents.unique(return_inverse=True)
    spread = None
    if len(names) > 1:
        weights = resample(len(names), draws=_DRAWS, seed=seed)[:, place].float()
        spread = interval(torch.tensor([gdv_of(apart, kind, c, one)[0] for one in weights]))
    parts = {"classes": float(c), "intra": intra, "inter": inter}
    return Score(
        f"word_classes:{site}", "gdv@1", value, "GDV (-1 apart, 0 mixed)", "lower", len(kind), spread,
        gdv_of(apart, shuffled, c, torch.ones(len(kind)))[0], parts,
    )  # fmt: skip
