"""Text written piece by piece, with the characters of each piece labelled by what causes them.

A piece is what the pre-tokenizer splits off: a word, a digit or a mark with the space before it, or a run of white space.
The leading space belongs to the piece, so every span edge is a token's edge.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from actscope.core.corpus import Span
from actscope.tasks._parts.words import ENTITIES

PIECE = re.compile(r" ?[^\W\d_]+| ?\d| ?[^\w\s]| ?_|\s+(?!\S)|\s+")


Mark = tuple[int, int, str]  # characters start..end (end excluded) hold a cause


@dataclass(frozen=True)
class Item:
    """One instance of a rule: a whole text whose characters from `cut` on are the answer and what follows it."""

    text: str
    marks: tuple[Mark, ...]
    cut: int
    answers: tuple[str, ...]
    wrong: tuple[str, ...] = ()
    corrupted: str = ""
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def prompt(self) -> str:
        return self.text[: self.cut]


class Labelled:
    """A text under construction: `add(" Mary", "ioi.answer")`."""

    def __init__(self, rule: str):
        self.rule = rule
        self.text = ""
        self.marks: list[Mark] = []
        self.cut = 0

    def add(self, text: str, *causes: str) -> "Labelled":
        """Append whole pieces, all of which hold `causes`."""
        start = len(self.text)
        self.text += text
        for cause in causes:
            self.marks.append((start, len(self.text), cause))
        return self

    def answer_here(self) -> "Labelled":
        """The prompt ends here."""
        self.cut = len(self.text)
        return self

    def item(
        self, answers: tuple[str, ...], wrong: tuple[str, ...] = (), corrupted: str = "", labels: dict[str, str] | None = None
    ) -> Item:
        marks = ((0, len(self.text), f"rule.{self.rule}"), *self.marks)
        return Item(self.text, marks, self.cut, answers, wrong, corrupted, labels or {})


def spans(text: str, marks: Iterable[Mark]) -> tuple[Span, ...]:
    """Every cause in a finished text: the marks of its rules, what each word is ("name.mary", "name"), and "none"
    wherever there is nothing else."""
    found = [Span(*mark) for mark in marks]
    for piece in PIECE.finditer(text):
        for cause in ENTITIES.get(piece.group().strip(), ()):
            found.append(Span(piece.start(), piece.end(), cause))
    found.sort(key=lambda span: (span.start, -span.end, span.cause))
    uncaused, reached = [], 0
    for span in (*found, Span(len(text), len(text), "")):
        if span.start > reached:
            uncaused.append(Span(reached, span.start, "none"))
        reached = max(reached, span.end)
    return (*found, *uncaused)
