"""Made-up text without a model behind it, and features that are known functions of it: the small twin of `planted_rules`, for
what needs many features, exact counts or no subject.

Documents of one length are drawn word by word, some words four times as often as others. Letters: n rows, m features.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from actscope.core.batch import Batch
from actscope.core.errors import ActscopeError
from actscope.core.inputs import Inputs
from actscope.core.predicate import Predicate
from actscope.core.site import Port
from actscope.core.text import TokenText
from actscope.organisms.planted_rules import RuleFeatures, RuleStore, activations

__all__ = ["planted_words"]

PORT = Port.parse("layers.0.mlp_out")
WORDS = (
    *(" Monday Tuesday Wednesday Thursday Friday".replace(" ", "| ").split("|")[1:]),
    " the", " a", " cat", " dog", " of", " and", " runs", " walking", " sitting", " eaten", " Anna", " Ben", " Carla",
    "\n", ".", " (", ")", ",", '"', " 1", " 2", " 3", "ing", "ed",
    *(f" w{i}" for i in range(60)),
)  # fmt: skip
_COMMON = 30  # words that come four times as often


class Words:
    """A subject that has words and nothing else: it cannot be run."""

    name, fingerprint, sites, missing, order, context, causal = "planted", "planted-1", {}, {}, (), 128, True

    def pieces(self, ids: Iterable[int]) -> list[str]:
        return [WORDS[number] if number < len(WORDS) else "" for number in ids]

    def prepare(self, raw: Sequence[str]) -> Inputs:
        raise ActscopeError("Made-up text has no tokenizer; give a real subject.")

    def run(self, inputs, *, read=(), write=(), grad=False, cache=None):
        raise ActscopeError("There is no model behind made-up text; `planted_rules` plants features in a real subject.")

    def weights(self) -> dict[str, Tensor]:
        return {}

    def changed(self, change: object) -> "Words":
        return self


class WordStore:
    """Text without activations."""

    def __init__(self, text: TokenText):
        self.words = text
        self.ports: dict[Port, int] = {}
        self.subjects = {"": Words.fingerprint}
        self.content = "planted"
        self.documents = {number: f"document {number}" for number in text.where[:, 0].unique().tolist()}

    def __len__(self) -> int:
        return len(self.words)

    def batches(self, ports, size: int, *, seed: int | None = None, start: int = 0) -> Iterator[Batch]:
        raise ActscopeError("Made-up text has no activations of its own.")

    def rows(self, index: Tensor, ports: Iterable[Port]) -> Batch:
        raise ActscopeError("Made-up text has no activations of its own.")

    def tokens(self, where, before, after):
        raise ActscopeError("Made-up text gives no windows; read `text`.")

    def sequences(self, size: int, documents: Any = None) -> Iterator[tuple[Inputs, Tensor]]:
        _, lengths = self.words.where[:, 0].unique_consecutive(return_counts=True)
        for number, ids in zip(self.documents, self.words.ids.split(lengths.tolist()), strict=True):
            if documents is None or number in documents:
                yield Inputs(ids=ids[None]), torch.tensor([[number, 0]])

    @property
    def text(self) -> tuple[Tensor, Tensor]:
        return self.words.ids, self.words.where


def planted_words(
    latents: Sequence[Predicate | float], *, documents: int = 150, length: int = 90, seed: int = 0, flip: float = 0.0
) -> tuple[RuleFeatures, Words, RuleStore]:
    """(dictionary, subject, store): a latent for each rule, active where it holds; a number is a latent active at random with
    that probability.

    flip: the share of a rule's places where the latent is silent although it holds, at random. Atoms are the axes.
    """
    generator = torch.Generator().manual_seed(seed)
    chance = torch.ones(len(WORDS))
    chance[:_COMMON] = 4.0
    ids = torch.multinomial(chance, documents * length, replacement=True, generator=generator)
    where = torch.stack([torch.arange(documents * length) // length, torch.arange(documents * length) % length + 1], 1)
    text = TokenText(ids, where, WORDS, torch.zeros(documents * length, dtype=torch.long))
    features = activations(latents, text, generator, flip=flip)
    dictionary = RuleFeatures(PORT, PORT, torch.eye(len(latents)))
    return dictionary, Words(), RuleStore(WordStore(text), PORT, features)
