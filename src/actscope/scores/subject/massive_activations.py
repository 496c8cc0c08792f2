"""Massive activations. Sun et al. 2024, "Massive Activations in Large Language Models" (arXiv:2402.17762).

A few numbers of the stream are orders of magnitude larger than the rest: they stand in fixed dimensions, at the first token
and at a few others, hardly depend on the input, and act as biases that attention sinks rest on.

1. Run each sequence; at every layer take |h|, the sizes of all numbers of the stream, special tokens included.
2. ratio = top / median: the largest of the sequence over its median.
3. An activation is massive where it is over 100 and over 1000 times the median.

Letters: b batch, t tokens, d width.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from actscope.core.score import Score
from actscope.core.subject import Subject
from actscope.scores._parts.bootstrap import by_document
from actscope.scores._parts.cost import Cost
from actscope.scores._parts.passages import Passage, Passages, layers, mean_interval, read

__all__ = ["massive_activations"]

COST = Cost("one pass", forward=1)


def massive_activations(
    subject: Subject, passages: Passages, *, over: float = 100.0, times: float = 1000.0, seed: int = 0
) -> list[Score]:
    """The largest size in the stream over its median one, a sequence at a time: a Score a layer after that of the layer where
    it is largest (Sun et al. 2024, arXiv:2402.17762).

    over, times: what makes an activation massive. Control: the same ratio of as many normal draws. Interval: bootstrap over
    documents. parts: top and median (means over sequences); massive (activations a sequence); the dimensions that hold the top
    ("dim 109") and the tokens it stands at ("token <...>") with their share of sequences, the three most frequent of each;
    first (share of sequences whose top is at the first token). Raises BadInput for a subject without resid_post, NotFinite.
    """
    sites = layers(subject, "resid_post")
    found: dict[str, list[Tensor]] = {str(site): [] for site in sites}
    documents, control = [], []
    draw = torch.Generator().manual_seed(seed)
    for batch in passages:
        acts = read(subject, batch, sites)
        documents.append(batch.documents)
        control.append(_measured(torch.randn(acts[sites[0]].shape, generator=draw), batch, over, times)[:, 0])
        for site in sites:
            found[str(site)].append(_measured(acts[site], batch, over, times))
    chance = float(torch.cat(control).mean())
    where = torch.cat(documents)
    scores = [_score(subject, name, torch.cat(parts), where, chance, seed) for name, parts in found.items()]
    return [_largest(scores), *scores]


def _measured(x: Float[Tensor, "b t d"], batch: Passage, over: float, times: float) -> Float[Tensor, "b c"]:
    """Of each sequence: ratio, top, median, how many are massive, dimension, token id and position of the top."""
    rows = []
    for size, mask, ids in zip(x.abs(), batch.mask, batch.ids, strict=True):
        here = size[mask]
        top, median = here.max(), here.median().clamp_min(1e-30)
        token, dim = divmod(int(here.argmax()), here.shape[1])
        massive = ((here > over) & (here > times * median)).sum()
        rows.append(torch.stack([top / median, top, median, massive, *map(torch.tensor, (dim, int(ids[mask][token]), token))]))
    return torch.stack([row.double() for row in rows])


def _score(subject: Subject, name: str, found: Tensor, documents: Tensor, chance: float, seed: int) -> Score:
    sums, counts = by_document(found[:, :1], documents)
    value, spread = mean_interval(sums[:, 0], counts, seed=seed)
    top, median, massive = found[:, 1:4].mean(0).tolist()
    first = float((found[:, 6] == 0).double().mean())
    parts = {"top": top, "median": median, "massive": massive, "first": first}
    parts |= {f"dim {int(dim)}": share for dim, share in _frequent(found[:, 4])}
    parts |= {f"token {subject.pieces([int(token)])[0]!r}": share for token, share in _frequent(found[:, 5])}
    return Score(
        f"massive_activations:{name}",
        "massive_activations@1",
        value,
        "top / median",
        "neither",
        len(counts),
        spread,
        chance,
        parts,
    )


def _frequent(values: Float[Tensor, " n"], most: int = 3) -> list[tuple[float, float]]:
    """(value, share) of the most frequent."""
    names, counts = values.unique(return_counts=True)
    order = counts.argsort(descending=True, stable=True)[:most]
    return [(float(names[i]), float(counts[i]) / len(values)) for i in order]


def _largest(scores: list[Score]) -> Score:
    best = max(scores, key=lambda score: score.value)
    return replace(best, name="massive_activations", unit=f"top / median at {best.name.partition(':')[2]}")
