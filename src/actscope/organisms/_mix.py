"""The training mix: two thirds grammar, one third real text, packed into rows of whole documents.

Batch n is a pure function of (seed, n). Letters: b rows, t tokens.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from tokenizers import Tokenizer

from actscope.organisms._model import IGNORED, Rows
from actscope.organisms.grammar import grammar

DOCUMENTS = 1 << 40  # the grammar is as good as endless
_A_BATCH = 1 << 14  # document numbers set aside for each batch


@dataclass(frozen=True)
class Stage:
    """From batch `start` on: how often each rule, and which lengths of numbers to add."""

    start: int
    weights: Mapping[str, float]
    digits: tuple[int, ...] = (1, 2, 3)


@dataclass(frozen=True)
class Mix:
    """A source for the training loop. chunks: real text as token ids, each starting with id 0 and at most `context` long."""

    tokenizer: Tokenizer
    chunks: Sequence[Sequence[int]]
    stages: Sequence[Stage]
    context: int
    share: float = 2 / 3  # of tokens that are grammar
    identity: Mapping[str, object] = field(default_factory=dict)

    def batches(self, size: int, *, seed: int, start: int) -> Iterator[Rows]:
        """Rows without end, from batch number `start` on. size: b."""
        number = start
        mean = sum(map(len, self.chunks)) / len(self.chunks)
        texts = round(size * self.context * (1 - self.share) / mean)
        while True:
            documents = [*self._real(number * texts, texts, seed), *self._grammar(number, size, texts * mean, seed)]
            yield pack(documents, size, self.context)
            number += 1

    def _real(self, first: int, count: int, seed: int) -> Iterator[Sequence[int]]:
        """The chunks in an order drawn afresh for each pass."""
        passes: dict[int, np.ndarray] = {}
        for place in range(first, first + count):
            turn, within = divmod(place, len(self.chunks))
            if turn not in passes:
                passes[turn] = np.random.default_rng([seed, turn]).permutation(len(self.chunks))
            yield self.chunks[passes[turn][within]]

    def _grammar(self, number: int, size: int, taken: float, seed: int) -> Iterator[Sequence[int]]:
        stage = max((stage for stage in self.stages if stage.start <= number), key=lambda stage: stage.start)
        corpus = grammar(seed, DOCUMENTS, rules=stage.weights, digits=stage.digits)
        texts = corpus.texts(number * _A_BATCH)
        room = size * self.context * 0.985 - taken
        while room > 0:
            for encoded in self.tokenizer.encode_batch([next(texts) for _ in range(32)]):
                ids = encoded.ids[: self.context]
                room -= len(ids)
                if room > 0:
                    yield ids


def chunked(encoded: Sequence[int], context: int) -> list[Sequence[int]]:
    """A document's ids (id 0 first) in pieces of at most `context`, each with id 0 in front."""
    body, step = encoded[1:], context - 1
    return [[0, *body[at : at + step]] for at in range(0, len(body), step)]


def pack(documents: Sequence[Sequence[int]], size: int, context: int) -> Rows:
    """Documents into `size` rows, the longest first, each where the least room is left that takes it; what fits nowhere
    is left out."""
    order = sorted(range(len(documents)), key=lambda place: -len(documents[place]))
    room = np.full(size, context)
    ids, targets = np.zeros((size, context), np.int64), np.full((size, context), IGNORED)
    document, positions = np.full((size, context), -1), np.zeros((size, context), np.int64)
    for place in order:
        tokens = documents[place]
        left = np.where(room >= len(tokens), room, context + 1)
        row = int(left.argmin())
        if left[row] > context:
            continue
        start = context - room[row]
        end = start + len(tokens)
        ids[row, start:end] = tokens
        targets[row, start : end - 1] = tokens[1:]
        document[row, start:end], positions[row, start:end] = place, np.arange(len(tokens))
        room[row] -= len(tokens)
    return Rows(*map(torch.from_numpy, (ids, targets, document, positions)))
