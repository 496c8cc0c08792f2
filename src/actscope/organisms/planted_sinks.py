"""A small language model with attention sinks and massive activations, planted as they were found in large ones.

The language, after the bigram-backcopy task of Guo et al. 2024 (arXiv:2410.13835): a table says which words may follow a word,
and how often; but after one of a few trigger words comes the word before the trigger again. So heads copy at triggers and have
nothing to do elsewhere. Models this small and this short in training grow no massive activations, so those are planted:

    1. A neuron of the first block's MLP fires for the embedding of the token that begins a sequence, and for what points its
       way, and writes a large number into one dimension of the stream (as Sun et al. 2024, arXiv:2402.17762, and Anand et al.
       2025, arXiv:2510.22603, found it in early MLPs).
    2. In every later block, half of the heads hold a query that looks for that dimension: where nothing calls for them, they
       attend to the token that has it.
    3. These weights are put back after every step of training; all others are trained around them.
    4. A mark, which training never saw, gets an embedding close to that of the first token, as new tokens are often begun from
       an old one. So in text with a mark, the mark is a sink too.

The text to fine-tune on has a mark between two passages, and other followers for half of the words. Letters: n and b sequences,
t tokens, v words.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from actscope.core.errors import UsageError
from actscope.core.progress import Progress, quiet
from actscope.organisms._model import IGNORED, LanguageModel, Rows
from actscope.subjects.hf import HFSubject
from actscope.training.fit import fit
from actscope.training.plan import Plan
from actscope.training.shuffled import Shuffled

__all__ = ["planted_sinks"]

BEGIN, MARK, WORDS = 0, 1, 2  # ids: the token that begins a sequence, the mark, the first word
TRIGGERS = 4  # the first words
LENGTH = 48  # tokens of a sequence
FOLLOWERS = (0.5, 0.25, 0.15, 0.1)  # how often each of a word's followers comes
SIZE, PEAK, OPEN = 300.0, 10.0, 0.6  # what the neuron writes for its own direction, its output there, the cosine it opens at
CALL = 1.6  # query and key of the heads that look for it
NEAR = 0.2  # of the mark's embedding: length of what is not the first token's, in lengths of that


class Sequences(NamedTuple):
    """targets: the token to come next; -100 at the end and before a mark, which nothing tells."""

    ids: Int[Tensor, "n t"]
    targets: Int[Tensor, "n t"]

    def to(self, device: str) -> "Sequences":
        return Sequences(*(value.to(device) for value in self))


@dataclass(frozen=True)
class World:
    """chance: of each word to follow another, where that is no trigger; tuned: the same in text to fine-tune on."""

    chance: Float[Tensor, "v v"]
    tuned: Float[Tensor, "v v"]

    def sequences(self, n: int, *, seed: int, marked: bool) -> Sequences:
        """Sequences drawn anew. marked: text to fine-tune on, with a mark between two passages."""
        draw = torch.Generator().manual_seed(seed)
        if not marked:
            words = _words(self.chance, n, LENGTH - 1, draw)
        else:
            one, two = (_words(self.tuned, n, LENGTH - 2, draw) for _ in range(2))
            place = torch.randint(LENGTH // 4, LENGTH // 2, (n, 1), generator=draw)  # of the mark, among the words
            t = torch.arange(LENGTH - 1).expand(n, -1)
            later = two.gather(1, (t - place - 1).clamp(min=0))
            words = torch.where(t < place, one.gather(1, t.clamp(max=LENGTH - 3)), torch.where(t > place, later, MARK))
        ids = torch.cat([torch.full((n, 1), BEGIN), words], 1)
        targets = torch.cat([ids[:, 1:], torch.full((n, 1), IGNORED)], 1)
        return Sequences(ids, torch.where(targets == MARK, IGNORED, targets))

    @staticmethod
    def copies(sequences: Sequences) -> Bool[Tensor, "n t"]:
        """The triggers whose next word is known from the word before them."""
        trigger = (sequences.ids >= WORDS) & (sequences.ids < WORDS + TRIGGERS)
        return trigger & (sequences.targets != IGNORED)


class Trained(NamedTuple):
    """What `planted_sinks` gives: the model before fine-tuning, and the world that draws its text."""

    subject: HFSubject
    world: World


def planted_sinks(
    seed: int = 0,
    *,
    words: int = 32,
    width: int = 48,
    layers: int = 3,
    heads: int = 4,
    rows: int = 6_400,
    batch: int = 32,
    size: float = SIZE,
    out: Path | str | None = None,
    progress: Progress = quiet,
) -> Trained:
    """A language model whose first token, and a mark, are attention sinks with massive activations; trained in seconds.

    seed: of the language, the weights and the text. rows: sequences seen in training. size: of the massive activation; 0 plants
    none, nor the heads that look for it. out: a folder for checkpoints and the result, from which the same call takes up its
    work. Raises UsageError for sizes that cannot be; Interrupted, after saving, when asked to stop.
    """
    if words <= TRIGGERS + len(FOLLOWERS) or layers < 2 or heads < 2 or width % heads or rows < batch or size < 0:
        raise UsageError(
            f"words={words}, layers={layers}, heads={heads}, width={width}, rows={rows}, size={size}: expected more than "
            f"{TRIGGERS + len(FOLLOWERS)} words, 2 layers and heads or more, a width that heads divide, {batch} rows or more, "
            "and a size from 0 on."
        )
    world = _world(words, seed)
    plant = _planting(width, layers, heads, size) if size else None
    model = LanguageModel(
        vocabulary=WORDS + words, width=width, layers=layers, heads=heads, context=LENGTH, seed=seed, narrow=False, kept=plant
    )  # fmt: skip
    text = world.sequences(min(rows, _POOL), seed=_TRAINED + seed, marked=False)
    places, each = torch.arange(LENGTH).expand_as(text.ids), torch.zeros_like(text.ids)
    source = Shuffled(Rows(text.ids, text.targets, each, places), {"words": words, "seed": seed, "size": size})
    fit(model, source, Plan(rows=rows, batch=batch, lr=3e-3, decay=0.4, seed=seed), out=out, progress=progress)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        table = model.weights()["gpt_neox.embed_in.weight"]
        beside = functional.normalize(torch.randn(width, generator=draw), dim=0) * table[BEGIN].norm()
        table[MARK] = table[BEGIN] + NEAR * beside
    return Trained(HFSubject(model.model.requires_grad_(False), None, f"planted-sinks-{seed}"), world)


_TRAINED, _POOL = 1 << 40, 4096  # seeds from here on are those of training; sequences trained on, again and again


def _planting(width: int, layers: int, heads: int, size: float) -> Callable[[int, Mapping[str, Tensor]], None]:
    """What puts the planted weights of steps 1 and 2 in their places."""
    each = width // heads

    @torch.no_grad()
    def plant(step: int, weights: Mapping[str, Tensor]) -> None:
        first = "gpt_neox.layers.0."
        weight, bias = (weights[f"{first}post_attention_layernorm.{part}"] for part in ("weight", "bias"))
        seen = functional.layer_norm(weights["gpt_neox.embed_in.weight"][BEGIN], (width,), weight, bias)
        slope = PEAK / (1 - OPEN)  # so that the neuron gives PEAK at a cosine of 1 and about 0 from OPEN down
        weights[f"{first}mlp.dense_h_to_4h.weight"][0] = slope * seen / seen.square().sum()
        weights[f"{first}mlp.dense_h_to_4h.bias"][0] = -slope * OPEN
        weights[f"{first}mlp.dense_4h_to_h.weight"][:, 0] = 0
        weights[f"{first}mlp.dense_4h_to_h.weight"][0, 0] = size / PEAK
        for layer in range(1, layers):
            taken = f"gpt_neox.layers.{layer}.attention.query_key_value."
            for head in range(0, heads, 2):
                query = 3 * each * head + each - 1  # the last number of the head's query, which positions do not turn
                for row, always, there in ((query, CALL, 0.0), (query + each, 0.0, CALL)):
                    weights[f"{taken}weight"][row] = 0
                    weights[f"{taken}weight"][row, 0] = there
                    weights[f"{taken}bias"][row] = always

    return plant


def _world(words: int, seed: int) -> World:
    draw = torch.Generator().manual_seed(seed)
    chance, other = (_table(words, draw) for _ in range(2))
    anew = torch.rand(words, 1, generator=draw) < 0.5
    return World(chance, torch.where(anew, other, chance))


def _table(words: int, draw: torch.Generator) -> Float[Tensor, "v v"]:
    followers = torch.rand(words, words, generator=draw).argsort(1)[:, : len(FOLLOWERS)]
    return torch.zeros(words, words).scatter(1, followers, torch.tensor(FOLLOWERS).expand(words, -1))


def _words(chance: Float[Tensor, "v v"], n: int, length: int, draw: torch.Generator) -> Int[Tensor, "n t"]:
    """Passages of words as ids; no passage begins with a trigger."""
    found = [torch.randint(TRIGGERS, len(chance), (n,), generator=draw)]
    for _ in range(length - 1):
        word = torch.multinomial(chance[found[-1]], 1, generator=draw)[:, 0]
        found.append(torch.where(found[-1] < TRIGGERS, found[-2], word) if len(found) > 1 else word)
    return WORDS + torch.stack(found, 1)
