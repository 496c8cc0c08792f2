"""A phrase-structure grammar in which the class of every next word follows from the words before, but not from the last one
alone; and small language models trained on it.

    S     -> (short | long) V (short | long P short) end | "then" Name Vi Adv end
    short -> "the" N
    long  -> "a" Adj N

So after a noun comes a verb, a preposition or an end, as its place in the sentence says; only how a sentence begins is free.
Letters: b sequences, t tokens.
"""

import random

import torch
from jaxtyping import Int
from torch import Tensor

from actscope.core.inputs import SPECIAL, TEXT, Inputs
from actscope.core.labels import Labels
from actscope.organisms._model import LanguageModel
from actscope.reproductions._parts.sampled import sampled
from actscope.scores._parts.passages import Passage, Passages
from actscope.subjects.hf import HFSubject
from actscope.training.fit import fit
from actscope.training.plan import Plan

CLASSES = {
    "opener": 3, "noun": 24, "adjective": 12, "name": 12, "verb": 16, "intransitive": 8, "preposition": 5, "adverb": 8,
    "end": 1,
}  # fmt: skip
_NAMES = tuple(CLASSES)
_FIRST = {name: 1 + sum(list(CLASSES.values())[:number]) for number, name in enumerate(_NAMES)}  # 0 begins a sequence
VOCABULARY = 1 + sum(CLASSES.values())
CONTEXT = 48
POOL = 2048  # sequences trained on


def sentences(n: int, *, seed: int) -> tuple[Int[Tensor, "n t"], Int[Tensor, "n t"]]:
    """(ids, class of each token; -1 for the first) of n sequences of whole sentences, cut at CONTEXT tokens."""
    draw = random.Random(seed)
    rows = []
    for _ in range(n):
        row: list[tuple[int, int]] = [(0, -1)]
        while len(row) < CONTEXT:
            row += [(_FIRST[name] + word, _NAMES.index(name)) for name, word in _sentence(draw)]
        rows.append(row[:CONTEXT])
    both = torch.tensor(rows)
    return both[..., 0], both[..., 1]


def _sentence(draw: random.Random) -> list[tuple[str, int]]:
    """(class, which of its words): openers are "the" 0, "a" 1 and "then" 2."""

    def any_of(name: str) -> tuple[str, int]:
        return name, draw.randrange(CLASSES[name])

    def phrase() -> tuple[list[tuple[str, int]], bool]:
        long = draw.random() < 0.5
        return [("opener", 1), any_of("adjective"), any_of("noun")] if long else [("opener", 0), any_of("noun")], long

    end = ("end", 0)
    if draw.random() < 0.3:
        return [("opener", 2), any_of("name"), any_of("intransitive"), any_of("adverb"), end]
    told, long = phrase()
    more = [any_of("preposition"), ("opener", 0), any_of("noun")] if long else []
    return [*phrase()[0], any_of("verb"), *told, *more, end]


def trained(*, width: int, layers: int, heads: int, steps: int, seed: int) -> HFSubject:
    """A language model of the grammar."""
    model = LanguageModel(
        vocabulary=VOCABULARY, width=width, layers=layers, heads=heads, context=CONTEXT, seed=seed, narrow=False
    )  # fmt: skip
    if steps:
        plan = Plan(rows=32 * steps, batch=32, lr=3e-3, warmup=0.05, decay=0.3, seed=seed)
        pool = min(POOL, plan.batch * steps)
        fit(model, sampled(sentences(pool, seed=seed)[0], {"phrases": [seed, pool]}), plan)
    return HFSubject(model.model.requires_grad_(False), None, f"phrases {seed}")


def held(n: int, *, seed: int) -> tuple[Passages, Labels]:
    """(sequences that no seed of training draws, what class each token is of)."""
    ids, kinds = sentences(n, seed=1_000_000 + seed)
    where = torch.stack([torch.arange(n)[:, None].expand_as(ids), torch.arange(CONTEXT).expand_as(ids)], -1)
    roles = torch.where(ids > 0, TEXT, SPECIAL)
    inputs = Inputs(ids=ids, mask=torch.ones_like(ids, dtype=torch.bool), roles=roles)
    holds = {name: torch.sort(where[kinds == k] @ torch.tensor([2**32, 1])).values for k, name in enumerate(_NAMES)}
    return Passages("phrases", (Passage(inputs, where),)), Labels(holds)
