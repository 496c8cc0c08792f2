"""Facts that follow from nothing else, and small language models that learn them: "<subject> <relation> <object>".

Half of the subjects are known to a base model; the facts of the other half are new to it.
Letters: n facts, b rows, t tokens, k answers.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from actscope.adaptation._parts.tuning import IGNORED, Texts, Tuning
from actscope.core.inputs import Inputs
from actscope.core.site import Site
from actscope.organisms._model import LanguageModel
from actscope.subjects.hf import HFSubject
from actscope.training.drawn import Drawn
from actscope.training.fit import fit
from actscope.training.plan import Plan

SUBJECTS, RELATIONS, OBJECTS = 240, 4, 60
A_ROW = 5  # facts
VOCABULARY = 1 + SUBJECTS + RELATIONS + OBJECTS  # 0 begins a row
CONTEXT = 1 + 3 * A_ROW


class Facts(NamedTuple):
    """known, new: ids of subject, relation and object."""

    known: Int[Tensor, "n 3"]
    new: Int[Tensor, "n 3"]


def facts(seed: int) -> Facts:
    """Every subject with every relation, and an object drawn for each."""
    draw = torch.Generator().manual_seed(seed)
    who = torch.arange(SUBJECTS).repeat_interleave(RELATIONS)
    what = torch.arange(RELATIONS).repeat(SUBJECTS)
    answer = torch.randint(OBJECTS, (len(who),), generator=draw)
    every = torch.stack([1 + who, 1 + SUBJECTS + what, 1 + SUBJECTS + RELATIONS + answer], 1)
    known, new = every.view(2, -1, 3)
    return Facts(known, new)


def source(these: Int[Tensor, "n 3"], identity: str) -> Drawn[Texts]:
    """Rows of facts drawn at random, for the training loop; what is asked for is the objects."""
    counts = torch.tensor([IGNORED] + [IGNORED, 1, IGNORED] * A_ROW)

    def rows(size: int, seed: int) -> Texts:
        draw = torch.Generator().manual_seed(seed)
        chosen = these[torch.randint(len(these), (size, A_ROW), generator=draw)].flatten(1)
        ids = torch.cat([torch.zeros(size, 1, dtype=torch.long), chosen], 1)
        targets = torch.cat([chosen, torch.full((size, 1), IGNORED)], 1)
        return Texts(ids, torch.where(counts == 1, targets, IGNORED))

    return Drawn(rows, identity)


def base(known: Int[Tensor, "n 3"], *, width: int, layers: int, steps: int, seed: int) -> HFSubject:
    """A language model that was trained on these facts."""
    model = LanguageModel(vocabulary=VOCABULARY, width=width, layers=layers, heads=2, context=CONTEXT, seed=seed).model
    tuning = Tuning(HFSubject(model, None, f"facts {seed}"), {"facts": seed})
    plan = Plan(rows=32 * steps, batch=32, lr=3e-3, warmup=0.05, decay=0.2, seed=seed)
    fit(tuning, source(known, "known"), plan)
    tuning.model.requires_grad_(False)
    return tuning.tuned


def asked(these: Int[Tensor, "n 3"]) -> Inputs:
    """Subject and relation of each."""
    return Inputs(ids=torch.cat([torch.zeros(len(these), 1, dtype=torch.long), these[:, :2]], 1))


@torch.no_grad()
def error(subject: HFSubject, these: Int[Tensor, "n 3"]) -> float:
    """Share of facts whose object is not the most probable."""
    logits = subject.run(asked(these)).logits
    assert logits is not None, "a run without reads computes logits"
    return float((logits[:, -1].argmax(-1) != these[:, 2]).float().mean())


@torch.no_grad()
def answers(
    subject: HFSubject, these: Int[Tensor, "n 3"], site: Site, *, k: int, temperature: float, seed: int
) -> Float[Tensor, "n k d"]:
    """The site's vectors at k objects drawn for each fact."""
    inputs = asked(these)
    logits = subject.run(inputs).logits
    assert logits is not None and inputs.ids is not None
    draw = torch.Generator().manual_seed(seed)
    said = torch.multinomial((logits[:, -1] / temperature).softmax(-1), k, replacement=True, generator=draw)
    ids = torch.cat([inputs.ids.repeat_interleave(k, 0), said.view(-1, 1)], 1)
    return subject.run(Inputs(ids=ids), read=[site]).acts[site][:, -1].view(len(these), k, -1)
