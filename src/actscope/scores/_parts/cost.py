"""What a measure of a subject asks of it, said before it is run, and what it then took.

Every file of scores/subject/ holds a `COST`, which `cost_of` reads without running anything.
"""

import copy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from actscope.core.inputs import Inputs
from actscope.core.subject import Subject

Needs = Literal["one pass", "pairs", "samples", "backward", "checkpoints"]


@dataclass(frozen=True)
class Cost:
    """needs: one pass over the text; pairs of runs, clean and altered; samples drawn from the model; backward passes; or the
    figures of several checkpoints. forward, backward: tokens run, as multiples of the text's tokens. a_document: tokens run
    beside those, for each document, of `documents` at most. most: whether this is an upper bound."""

    needs: Needs
    forward: int = 0
    backward: int = 0
    a_document: int = 0
    documents: int | None = None
    most: bool = False

    def tokens(self, text: int, documents: int) -> int:
        """Tokens run forward on a text of so many tokens and documents."""
        counted = documents if self.documents is None else min(documents, self.documents)
        return self.forward * text + self.a_document * counted

    def sentence(self) -> str:
        """Such as "pairs: 3 forward passes"."""
        parts = [_passes(self.forward, "forward"), _passes(self.backward, "backward")]
        of = "" if self.documents is None else f", {self.documents} documents"
        parts.append(f"{self.a_document:,} tokens a document{of}" if self.a_document else "")
        said = ", ".join(part for part in parts if part) or "no pass of its own"
        return f"{self.needs}: {'at most ' if self.most else ''}{said}"


def _passes(number: int, way: str) -> str:
    return f"{number} {way} pass{'' if number == 1 else 'es'}" if number else ""


def cost_of(measure: Callable[..., Any]) -> Cost:
    """What a measure of a subject declares."""
    return sys.modules[measure.__module__].COST


@dataclass
class Spent:
    """What was run. tokens: forward, padding left out; backward: of these, those that kept a graph to go back through."""

    tokens: int = 0
    backward: int = 0


def counted(subject: Subject) -> tuple[Subject, Spent]:
    """A twin of the subject, sharing everything, whose runs are counted."""
    twin: Any = copy.copy(subject)
    spent = Spent()

    def run(inputs: Any, **given: Any) -> Any:
        tokens = _tokens(inputs)
        spent.tokens += tokens
        spent.backward += tokens * bool(given.get("grad"))
        return subject.run(inputs, **given)

    twin.run = run
    return twin, spent


def _tokens(inputs: Any) -> int:
    if not isinstance(inputs, Inputs):
        return inputs.numel()
    for given in (inputs.ids, inputs.embeds):
        if given is not None and inputs.mask is not None and inputs.mask.shape[1] == given.shape[1]:
            return int(inputs.mask.sum())
        if given is not None:  # a mask longer than the ids covers tokens of a cache as well
            return given.shape[0] * given.shape[1]
    return 0 if inputs.pixels is None else len(inputs.pixels)
