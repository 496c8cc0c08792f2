"""The Bigram-Backcopy task of Guo et al. 2024, "Active-Dormant Attention Heads" (arXiv:2410.13835), on which attention sinks
and large activations at the first token come up in small models; and language models trained on it.

A sequence begins with a special token and goes on as a Markov chain, but after one of three trigger words, the most frequent
ones, the next word is the one before the trigger. So a head has work at triggers only, and elsewhere somewhere to look.
Letters: b sequences, t tokens, v words.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from actscope.core.inputs import SPECIAL, TEXT, Inputs
from actscope.organisms._model import LanguageModel
from actscope.reproductions._parts.sampled import sampled
from actscope.scores._parts.passages import Passage, Passages
from actscope.subjects.hf import HFSubject
from actscope.training.fit import fit
from actscope.training.plan import Plan

WORDS, TRIGGERS, CONTEXT = 32, 3, 64
VOCABULARY = 1 + WORDS  # 0 begins a sequence
POOL = 4096  # sequences trained on


def chain(seed: int) -> Float[Tensor, "v v"]:
    """The chances of the next word; some words are frequent everywhere (Zipf)."""
    draw = torch.Generator().manual_seed(seed)
    frequent = -torch.arange(1, WORDS + 1).float()[torch.randperm(WORDS, generator=draw)].log()
    return (1.5 * torch.randn(WORDS, WORDS, generator=draw) + frequent).softmax(1)


def frequent(chances: Float[Tensor, "v v"]) -> Float[Tensor, " v"]:
    """How often each word of a chain occurs in the long run."""
    return torch.linalg.matrix_power(chances.double(), 256)[0].float()


def sequences(n: int, chances: Float[Tensor, "v v"], *, seed: int) -> Int[Tensor, "b t"]:
    """n sequences of CONTEXT tokens, the first of them 0; word i of the chain is token i + 1."""
    draw = torch.Generator().manual_seed(seed)
    often = frequent(chances)
    triggers = often.topk(TRIGGERS).indices
    words = [torch.multinomial(often.expand(n, -1), 1, generator=draw)[:, 0]]
    while len(words) < CONTEXT - 1:
        following = torch.multinomial(chances[words[-1]], 1, generator=draw)[:, 0]
        copied = torch.isin(words[-1], triggers) if len(words) > 1 else torch.zeros(n, dtype=torch.bool)
        words.append(torch.where(copied, words[-2] if len(words) > 1 else following, following))
    return torch.stack([torch.full((n,), -1), *words], 1) + 1


def held(n: int, *, seed: int) -> Passages:
    """Sequences that training does not draw."""
    ids = sequences(n, chain(seed), seed=1_000_000 + seed)
    where = torch.stack([torch.arange(n)[:, None].expand_as(ids), torch.arange(CONTEXT).expand_as(ids)], -1)
    roles = torch.where(ids > 0, TEXT, SPECIAL)
    return Passages("backcopy", (Passage(Inputs(ids=ids, mask=torch.ones_like(ids, dtype=torch.bool), roles=roles), where),))


def trained(
    *, layers: int, width: int, heads: int, steps: int, rate: float, seed: int, kept: Callable[[HFSubject], Any],
    at: Collection[int], batch: int = 8,
) -> HFSubject:  # fmt: skip
    """A language model of the task, of Pythia's kind. kept: called with the model as it stands after each of the steps `at`."""

    def keep(step: int, _: Mapping[str, Tensor]) -> None:
        if step in at:
            kept(HFSubject(model.model, None, f"step {step}"))

    model = LanguageModel(
        vocabulary=VOCABULARY, width=width, layers=layers, heads=heads, context=CONTEXT, seed=seed, narrow=False, kept=keep
    )
    source = sampled(sequences(POOL, chain(seed), seed=seed), {"backcopy": seed})
    fit(model, source, Plan(rows=batch * steps, batch=batch, lr=rate, warmup=0.02, decay=0.0, seed=seed))
    return HFSubject(model.model.requires_grad_(False), None, f"backcopy {seed}")
