"""Latents that are rules over text, in a store of real text: what is true of each is known.

Letters: n rows, m latents.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from actscope.core.explanation import Explanation
from actscope.core.labels import Labels
from actscope.core.predicate import All, Any, Earlier, LineBegins, Ngram, Not, Predicate, Repeated, Starts, TokenClass, TokenIn
from actscope.core.site import Port
from actscope.core.text import TokenText

PORT = Port.parse("layers.0.mlp_out")


def rules_of(text: TokenText, *, seed: int) -> list[Predicate]:
    """One rule of each kind, over words of the text that are neither rare nor everywhere."""
    draw = torch.Generator().manual_seed(seed)
    counts = torch.bincount(text.ids, minlength=len(text.vocabulary))
    ranked = counts.argsort(descending=True)[15:250]
    words = [text.vocabulary[token] for token in ranked[torch.randperm(len(ranked), generator=draw)].tolist()]
    four = [tuple(words[at : at + 4]) for at in range(0, 32, 4)]
    pairs = torch.stack([text.earlier(1), text.ids], 1)[text.reaches(1)]
    often, times = pairs.unique(dim=0, return_counts=True)
    pair = often[times.argsort(descending=True)[10 + int(torch.randint(20, (1,), generator=draw))]].tolist()
    return [
        TokenIn(four[0]),
        TokenIn(four[1], 1),
        Ngram(tuple(text.vocabulary[token] for token in pair)),
        Repeated(2),
        Earlier(four[2], 4),
        All((TokenClass("a capitalised word"), Not(Repeated()))),
        Any((TokenIn(four[3]), TokenIn(four[4], 1))),
        All((TokenClass("a number"), Repeated())),
        LineBegins(four[5]),
        Starts("sentence"),
    ]


def columns_of(rules: Sequence[Predicate], text: TokenText, *, silent: float, seed: int) -> Float[Tensor, "n m"]:
    """Each rule's latent: active where it holds, but for a share `silent` of these places, at strengths of its own."""
    draw = torch.Generator().manual_seed(seed)
    found = []
    for rule in rules:
        fires = rule.holds(text) & (torch.rand(len(text), generator=draw) >= silent)
        found.append(fires * (0.1 + torch.rand(len(text), generator=draw)))
    return torch.stack(found, 1)


class ByTruth:
    """The judge that knows: 1 where the cause that the explanation names holds. It never sees activations either."""

    def __init__(self, labels: Labels):
        self._labels = labels

    def __call__(self, explanation: Explanation, text: TokenText, rows: Tensor) -> Tensor:
        return self._labels.at(text.where[rows])[str(explanation.evidence["cause"])].float()
