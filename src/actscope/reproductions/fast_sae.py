"""Autoencoders for chat models want dialogues one at a time. Li et al. 2025, "Training Superior Sparse Autoencoders for
Instruct Models" (FAST, arXiv:2506.07691), on a small chat model of our own (organisms/chat.py).

    1. The model: pocket-mini, which went on reading blocks of joined text and was then fine-tuned on dialogues.
    2. Rows of one layer, as many and seen as often each time:
         FAST   dialogues one at a time in the chat template, mixed after they were read;
         BT(F)  the same dialogues joined end to end and cut into blocks, in which each attends to those before it;
         BT(P)  text of the pretraining joined and cut likewise.
    3. Fit the paper's two autoencoders, ReLU with L1 ("standard") and JumpReLU, to each. Every one of the six has the learning
       rate, of the same few, that leaves the least error on dialogues kept for choosing, with the first seed.
    4. On other dialogues, whose questions nobody was trained on: the squared error of all tokens, and of special tokens apart.
       Control: FAST once more with other dialogues and another start, where there should be no difference to FAST.
    5. How well single latents say what is true of a token (F1), in place of the paper's judgement by a language model.

What is joined to a dialogue is all that BT(F) changes, so that BT(P) against BT(F) shows what the data do and BT(F) against
FAST what the regime does. Letters: n rows, d width, t tokens.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from actscope.core.dictionary import Dictionary
from actscope.core.inputs import Inputs
from actscope.core.labels import Labels
from actscope.core.progress import Progress, quiet
from actscope.core.reproduction import Reproduction
from actscope.core.site import Port, Site
from actscope.core.store import Store, split_documents
from actscope.core.subject import Subject
from actscope.dictionaries.jumprelu import JumpReLU
from actscope.dictionaries.relu_l1 import ReluL1
from actscope.organisms.chat import chat, pretraining, token_ids
from actscope.organisms.dialogues import dialogues
from actscope.organisms.truth import truth
from actscope.reproductions._parts.planted import store_of
from actscope.reproductions._parts.seeds import beyond, gathered, means
from actscope.scores.dictionary.l0 import l0
from actscope.scores.dictionary.special_tokens import special_tokens
from actscope.scores.dictionary.truth_recovery import truth_recovery
from actscope.stores.capture import capture
from actscope.subjects.hf import HFSubject
from actscope.training.fit import fit
from actscope.training.plan import Plan

__all__ = ["fast_sae"]

CLAIM = (
    "An autoencoder trained on dialogues one at a time has a lower error on held-out dialogues, and on their special tokens, "
    "than one trained on blocks of joined pretraining text, and than one trained on blocks of the same dialogues."
)
REGIMES = ("FAST", "BT(F)", "BT(P)")
METHODS = ("jumprelu", "relu_l1")
TOKENS = ("all", "special")  # on which the error is measured
SITE = Site("resid_post", 2)
RATES = (0.003, 0.01, 0.03, 0.1)
_AT_ONCE = 64  # blocks run together
_ENDLESS = 1 << 30  # dialogues; `tokens` says how many are read


def fast_sae(
    *,
    seeds: Sequence[int] = (0, 1, 2),
    tokens: int = 60_000,
    rows: int = 180_000,
    latents: int = 512,
    k: int = 16,
    l1: float = 0.1,
    rates: Sequence[float] = RATES,
    judged: int = 30_000,
    blocks: int = 1000,
    turns: int = 3200,
    full: bool = False,
    progress: Progress = quiet,
) -> Reproduction:
    """Sparse autoencoders of a chat model, trained dialogue by dialogue or on blocks (Li et al. 2025, arXiv:2506.07691).

    seeds: of model, text and autoencoders. tokens: read for each regime; rows: seen in training. latents: of each autoencoder;
    k: latents that JumpReLU aims at; l1: ReLU's penalty. rates: learning rates tried. judged: tokens of held-out dialogues,
    half to choose the rate on and half to judge on. blocks, turns: rows the model is pretrained and fine-tuned on. full: five
    seeds and three times the rows. ours, baseline and control: JumpReLU's error on all tokens, over the variance; the baseline
    is the better of the two. holds: with both methods, on all and on special tokens, in every seed and over seeds (95%,
    Student's t), the error is below that of both baselines.
    """
    began = time.monotonic()
    if full:
        seeds, rows = tuple(range(5)), 3 * rows
    chosen: dict[tuple[str, str], float] = {}
    found: list[dict[str, float]] = []
    for number, seed in enumerate(seeds):
        progress(number, len(seeds), f"seed {seed}")
        subject = chat(seed=seed, blocks=blocks, rows=turns)
        data = _data(subject, seed, tokens, judged)
        made = _Made(data, rows, latents, {"jumprelu": {"k": k}, "relu_l1": {"l1": l1}}, seed)
        found.append(_measured(made, rates, chosen))
    progress(len(seeds), len(seeds), "seeds")
    figures = gathered(found)
    figures |= _differences(figures)
    mean = means(figures)
    return Reproduction(
        "fast-sae", CLAIM, mean["jumprelu FAST all"], min(mean[f"jumprelu {regime} all"] for regime in REGIMES[1:]),
        mean["jumprelu FAST again all"], "share of the variance unexplained", tuple(seeds), _holds(figures),
        time.monotonic() - began, figures, {"model of the last seed": subject.fingerprint},
    )  # fmt: skip


@dataclass(frozen=True)
class _Data:
    """A store for each regime, and dialogues kept apart."""

    stores: Mapping[str, Store]
    held: Store
    choose: list[int]  # documents of `held`
    judge: list[int]
    labels: Labels


@dataclass(frozen=True)
class _Made:
    """What is needed to fit one autoencoder after another."""

    data: _Data
    rows: int
    latents: int
    settings: Mapping[str, Mapping[str, int | float]]
    seed: int

    def fitted(self, method: str, regime: str, lr: float) -> Dictionary:
        """Trained in a regime; "FAST again" has another start and another order too."""
        store, seed = self.data.stores[regime], self.seed + 1000 * (regime == "FAST again")
        kind = {"jumprelu": JumpReLU, "relu_l1": ReluL1}[method]
        one = kind(reads=store.ports, n_latents=self.latents, seed=seed, **self.settings[method])  # type: ignore[arg-type]
        return fit(one, store, Plan(rows=self.rows, batch=1024, lr=lr, seed=seed))


def _data(subject: HFSubject, seed: int, tokens: int, judged: int) -> _Data:
    read = dialogues(100 + seed, _ENDLESS)
    fast = capture(subject, read, [SITE], tokens=tokens, special=True)
    held_out = dialogues(200 + seed, _ENDLESS, split="test")
    held = capture(subject, held_out, [SITE], tokens=judged, special=True)
    choose, judge = split_documents(held, 2, seed=seed)
    text = token_ids(subject.tokenizer, pretraining(300 + seed, tokens), len(fast))
    stores = {
        "FAST": fast,
        "BT(F)": in_blocks(subject, token_ids(subject.tokenizer, read, len(fast)), len(fast)),
        "BT(P)": in_blocks(subject, text, len(fast)),
        "FAST again": capture(subject, dialogues(400 + seed, _ENDLESS), [SITE], tokens=tokens, special=True),
    }
    return _Data(stores, held, choose, judge, truth(held_out, subject, documents=len(held.documents)))


@torch.no_grad()
def in_blocks(subject: Subject, ids: Int[Tensor, " t"], most: int) -> Store:
    """The first `most` of these tokens, joined and cut into blocks of the model's context, as a store: special tokens are among
    its rows, and every token attends to all before it in its block."""
    ids = ids[:most]
    blocks = ids[: len(ids) // subject.context * subject.context].view(-1, subject.context)
    parts = [subject.run(Inputs(ids=some), read=[SITE]).acts[SITE].flatten(0, 1) for some in blocks.split(_AT_ONCE)]
    return store_of({Port(SITE): torch.cat(parts)}, name=subject.fingerprint)


def _measured(made: _Made, rates: Sequence[float], chosen: dict[tuple[str, str], float]) -> dict[str, float]:
    """Steps 3 to 5 for one seed. chosen: the rates; found here with the first seed."""
    found: dict[str, float] = {}
    for method in METHODS:
        for regime in REGIMES:
            fitted = {}
            for lr in [chosen[method, regime]] if (method, regime) in chosen else rates:
                fitted[lr] = made.fitted(method, regime, lr)
            errors = {lr: _errors(one, made.data, made.data.choose)["all"] for lr, one in fitted.items()}
            best = min(errors, key=lambda lr: errors[lr])
            chosen[method, regime] = best
            found |= _judged(fitted[best], made.data, f"{method} {regime}", features=method == METHODS[0])
            found[f"{method} {regime} rate"] = best
        again = made.fitted(method, "FAST again", chosen[method, "FAST"])
        found |= _judged(again, made.data, f"{method} FAST again", features=False)
    return found


def _judged(one: Dictionary, data: _Data, name: str, *, features: bool) -> dict[str, float]:
    found = {f"{name} {tokens}": error for tokens, error in _errors(one, data, data.judge).items()}
    found[f"{name} L0"] = l0(one, data.held, documents=data.judge).value
    if features:
        found[f"{name} F1"] = truth_recovery(one, data.held, data.labels, choose=data.choose, test=data.judge).value
    return found


def _errors(one: Dictionary, data: _Data, documents: list[int]) -> dict[str, float]:
    """A row's squared error over the mean squared distance of rows from their mean: of all tokens, special ones and text."""
    score = special_tokens(one, data.held, documents=documents)
    special, text = score.parts["rows:special"], score.parts["rows:text"]
    every = (score.value * special + score.parts["text"] * text) / (special + text)
    return {"all": every, "special": score.value, "text": score.parts["text"]}


def _differences(figures: Mapping[str, tuple[float, ...]]) -> dict[str, tuple[float, ...]]:
    """By how much each baseline, and the control, is above FAST, seed by seed."""
    return {
        f"{method} {other} above FAST, {tokens}": tuple(
            above - ours
            for above, ours in zip(figures[f"{method} {other} {tokens}"], figures[f"{method} FAST {tokens}"], strict=True)
        )
        for method in METHODS
        for other in (*REGIMES[1:], "FAST again")
        for tokens in TOKENS
    }


def _holds(figures: Mapping[str, tuple[float, ...]]) -> bool:
    return all(
        beyond(figures[f"{method} {baseline} {tokens}"], figures[f"{method} FAST {tokens}"])
        for method in METHODS
        for baseline in REGIMES[1:]
        for tokens in TOKENS
    )
