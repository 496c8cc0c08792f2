"""Rules over text that say, token by token, whether something holds: serialisable, vectorised, readable.

A rule sees a token and what stands before it in the sequence the model read, never what follows: whatever a model
computes there can depend on nothing else. None knows of any corpus; the words they name come from the caller.
Letters: n rows (tokens in reading order, sequences one after another).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from actscope.core.text import TokenText, shifted

SHOWN = 8  # tokens named in a sentence before "and 12 more"


@runtime_checkable
class Predicate(Protocol):
    def holds(self, text: TokenText) -> Bool[Tensor, " n"]:
        """Whether the rule holds at each token, given that token and what stands before it in its sequence."""
        ...

    def sentence(self) -> str:
        """The tokens it holds at, in words that follow "fires on"."""
        ...

    def clause(self) -> str:
        """The rule in words that follow "where"."""
        ...


def named(tokens: tuple[str, ...], join: str = "or") -> str:
    """Tokens in quotes, at most eight of them."""
    shown = [repr(token) for token in tokens[:SHOWN]]
    if len(tokens) > SHOWN:
        return f"{', '.join(shown)} and {len(tokens) - SHOWN} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {join} {shown[-1]}"


def _at(back: int) -> str:
    return ("the token", "the previous token")[back] if back < 2 else f"the token {back} before"


def _on(kind: str, back: int) -> str:
    return kind if back == 0 else f"what follows {kind}" if back == 1 else f"what stands {back} tokens after {kind}"


@dataclass(frozen=True)
class TokenIn:
    """The token `back` places before (0: this one) is one of `tokens`."""

    tokens: tuple[str, ...]
    back: int = 0

    def holds(self, text: TokenText) -> Bool[Tensor, " n"]:
        return shifted(text.listed(self.tokens)[text.ids], text, self.back)

    def sentence(self) -> str:
        return _on(("the token " if len(self.tokens) == 1 else "") + named(self.tokens), self.back)

    def clause(self) -> str:
        return f"{_at(self.back)} is {named(self.tokens)}"


CLASSES: dict[str, Callable[[str], bool]] = {
    "a capitalised word": lambda piece: (
        (word := piece.strip()).isalpha() and word[0].isupper() and word[1:] == word[1:].lower()
    ),
    "a lower-case word": lambda piece: (word := piece.strip()).isalpha() and word.islower(),
    "an upper-case word": lambda piece: (word := piece.strip()).isalpha() and word.isupper() and len(word) > 1,
    "a number": lambda piece: piece.strip().isdigit(),
    "punctuation": lambda piece: bool(word := piece.strip()) and not any(c.isalnum() for c in word),
    "white space": lambda piece: bool(piece) and not piece.strip(),
    "a line break": lambda piece: "\n" in piece,
    "a token that begins with a space": lambda piece: piece[:1] == " " and bool(piece.strip()),
    "a piece that continues a word": lambda piece: piece[:1].isalpha(),
}


@dataclass(frozen=True)
class TokenClass:
    """The token `back` places before is of an orthographic class, one of CLASSES."""

    kind: str
    back: int = 0

    def holds(self, text: TokenText) -> Bool[Tensor, " n"]:
        return shifted(text.by_piece(self.kind, CLASSES[self.kind]).bool()[text.ids], text, self.back)

    def sentence(self) -> str:
        return _on(self.kind, self.back)

    def clause(self) -> str:
        return f"{_at(self.back)} is {self.kind}"


@dataclass(frozen=True)
class TokenLength:
    """The token `back` places before has at least `least` characters, white space around it not counted."""

    least: int
    back: int = 0

    def holds(self, text: TokenText) -> Bool[Tensor, " n"]:
        long = text.by_piece("length", lambda piece: len(piece.strip())) >= self.least
        return shifted(long[text.ids], text, self.back)

    def sentence(self) -> str:
        return _on(f"a token of {self.least} or more characters", self.back)

    def clause(self) -> str:
        return f"{_at(self.back)} has {self.least} or more characters"


@dataclass(frozen=True)
class TokenSpelt:
    """The token `back` places before, white space around it aside, starts with, ends in or contains some characters."""

    part: str
    how: Literal["starts with", "ends in", "contains"] = "contains"
    back: int = 0

    def holds(self, text: TokenText) -> Bool[Tensor, " n"]:
        test = {"starts with": str.startswith, "ends in": str.endswith, "contains": str.__contains__}[self.how]
        spelt = torch.tensor([test(word, self.part) for word in text.words])
        return shifted(spelt[text.ids], text, self.back)

    def sentence(self) -> str:
        return _on(f"a token that {self.how} {self.part!r}", self.back)

    def clause(self) -> str:
        return f"{_at(self.back)} {self.how} {self.part!r}"


@dataclass(frozen=True)
class Ngram:
    """The last tokens, this one included, are exactly `tokens`."""

    tokens: tuple[str, ...]

    def holds(self, text: TokenText) -> Bool[Tensor, " n"]:
        found = torch.ones(len(text), dtype=torch.bool)
        for back, token in enumerate(reversed(self.tokens)):
            found &= shifted(text.listed((token,))[text.ids], text, back)
        return found

    def sentence(self) -> str:
        return f"the last token of {''.join(self.tokens)!r}"

    def clause(self) -> str:
        return f"the text so far ends in {''.join(self.tokens)!r}"


@dataclass(frozen=True)
class PositionIn:
    """The token's place in its sequence, counted from 0 without special tokens, is in first..last (None: no end)."""

    first: int
    last: int | None = None

    def holds(self, text: TokenText) -> Bool[Tensor, " n"]:
        after = text.place >= self.first
        return after if self.last is None else after & (text.place <= self.last)

    def sentence(self) -> str:
        return f"tokens at {self._range()}"

    def clause(self) -> str:
        return f"the token is at {self._range()}"

    def _range(self) -> str:
        if self.last is None:
            return f"place {self.first + 1} of the text or later"
        if self.first == self.last:
            return f"place {self.first + 1} of the text"
        return f"places {self.first + 1} to {self.last + 1} of the text"


@dataclass(frozen=True)
class Repeated:
    """The last `length` tokens, this one included, stood together earlier in the sequence: with length 1 the token was
    seen before; with length 2 the previous token was, and this one followed it then (an induction hit)."""

    length: int = 1

    def holds(self, text: TokenText) -> Bool[Tensor, " n"]:
        return text.first_run(self.length) < text.row

    def sentence(self) -> str:
        return "a token that " + ("occurred" if self.length == 1 else "followed " + self._runs()) + " earlier in the text"

    def clause(self) -> str:
        what = "the token" if self.length == 1 else f"the token, after {self._runs()},"
        return f"{what} occurred earlier in the text"

    def _runs(self) -> str:
        return "the same token" if self.length == 2 else f"the same {self.length - 1} tokens"


@dataclass(frozen=True)
class Earlier:
    """One of `tokens` stands before this one, among the last `within` tokens (None: anywhere in the sequence)."""

    tokens: tuple[str, ...]
    within: int | None = None

    def holds(self, text: TokenText) -> Bool[Tensor, " n"]:
        last = text.last(text.listed(self.tokens)[text.ids])
        found = last >= 0
        return found if self.within is None else found & (text.where[:, 1] - text.where[last, 1] <= self.within)

    def sentence(self) -> str:
        return "tokens " + self._place()

    def clause(self) -> str:
        return "the token comes " + self._place()

    def _place(self) -> str:
        return ("somewhere after " if self.within is None else f"at most {self.within} tokens after ") + named(self.tokens)


@dataclass(frozen=True)
class Often:
    """At least `least` of the last `within` tokens, this one included, are of `tokens`."""

    tokens: tuple[str, ...]
    least: int = 1
    within: int = 1

    def holds(self, text: TokenText) -> Bool[Tensor, " n"]:
        total = torch.cat([torch.zeros(1, dtype=torch.long), text.listed(self.tokens)[text.ids].long().cumsum(0)])
        first = torch.maximum(text.start, text.row - self.within + 1)
        return total[text.row + 1] - total[first] >= self.least

    def sentence(self) -> str:
        return "tokens where " + self.clause()

    def clause(self) -> str:
        if self.within == 1:
            return f"the token is {named(self.tokens)}"
        least = "one" if self.least == 1 else f"{self.least}"
        return f"{least} or more of the last {self.within} tokens, this one included, are {named(self.tokens)}"


@dataclass(frozen=True)
class Starts:
    """The first token of a line, a sentence or a sequence; blank tokens at its start do not count."""

    unit: Literal["line", "sentence", "text"]

    def holds(self, text: TokenText) -> Bool[Tensor, " n"]:
        return {"line": text.line_start, "sentence": text.sentence_start}.get(self.unit, text.row == text.start)

    def sentence(self) -> str:
        return f"the first token of a {self.unit}"

    def clause(self) -> str:
        return f"the token is the first of a {self.unit}"


@dataclass(frozen=True)
class LineBegins:
    """The first token of the line this one is on, itself included, is one of `tokens`."""

    tokens: tuple[str, ...]

    def holds(self, text: TokenText) -> Bool[Tensor, " n"]:
        return text.listed(self.tokens)[text.ids[text.line]]

    def sentence(self) -> str:
        return f"lines that begin with {named(self.tokens)}"

    def clause(self) -> str:
        return f"the line begins with {named(self.tokens)}"


@dataclass(frozen=True)
class Inside:
    """Between the characters `opening` and `closing`, at least `depth` deep; the tokens that hold them are outside.

    Where both are the same mark, inside is where an odd number of them stands before. A closing without an opening
    counts for nothing.
    """

    opening: str
    closing: str
    depth: int = 1

    def holds(self, text: TokenText) -> Bool[Tensor, " n"]:
        opens = text.by_piece(("count", self.opening), lambda piece: piece.count(self.opening))[text.ids]
        if self.opening == self.closing:
            before = text.before(opens)
            return (before % 2 == 1) & ((before + opens) % 2 == 1)
        step = opens - text.by_piece(("count", self.closing), lambda piece: piece.count(self.closing))[text.ids]
        after = text.before(step) + step
        below = text.start * (2 * len(text) + 2) * int(step.abs().max())  # later sequences lie lower: each minimum is its own
        lowest = (after - below).cummin(0).values + below
        deep = after - lowest.clamp(max=0)
        earlier = torch.where(text.row > text.start, deep.roll(1), 0)
        return torch.minimum(deep, earlier) >= self.depth

    def sentence(self) -> str:
        return f"tokens between {self.opening} and {self.closing}" + ("" if self.depth == 1 else f", {self.depth} deep")

    def clause(self) -> str:
        return self.sentence().replace("tokens", "the token is", 1)


@dataclass(frozen=True)
class Like:
    """The tokens that end here resemble one of `examples` (each in reading order): the same tokens at the same places count
    1, 1/2, 1/4... from the last one back, and come to `least` or more."""

    examples: tuple[tuple[str, ...], ...]
    least: float

    def holds(self, text: TokenText) -> Bool[Tensor, " n"]:
        return self.alike(text) >= self.least

    def alike(self, text: TokenText) -> Float[Tensor, " n"]:
        """How much each place resembles the example nearest to it: 0 to 2."""
        return torch.stack([text.alike(example) for example in self.examples]).amax(0)

    def sentence(self) -> str:
        return f"what {self.clause().removeprefix('the text so far ')}"

    def clause(self) -> str:
        return f"the text so far resembles {named(tuple(map(''.join, self.examples)))}"


@dataclass(frozen=True)
class Not:
    part: Predicate

    def holds(self, text: TokenText) -> Bool[Tensor, " n"]:
        return ~self.part.holds(text)

    def sentence(self) -> str:
        return f"every token but {self.part.sentence()}"

    def clause(self) -> str:
        return f"it is not so that {self.part.clause()}"


@dataclass(frozen=True)
class All:
    """Every part holds."""

    parts: tuple[Predicate, ...]

    def holds(self, text: TokenText) -> Bool[Tensor, " n"]:
        found = self.parts[0].holds(text)
        for part in self.parts[1:]:
            found = found & part.holds(text)
        return found

    def sentence(self) -> str:
        kept = [part for part in self.parts if not isinstance(part, Not)]
        if not kept:
            return "every token but " + " and ".join(part.part.sentence() for part in self.parts if isinstance(part, Not))
        head = min(kept, key=_generality)
        also = " and ".join(part.clause() for part in kept if part is not head)
        rest = (f" where {also}" if also else "") + self._unless()
        return head.sentence() + ("; all of these" if isinstance(head, Any) else "") + rest

    def clause(self) -> str:
        kept = " and ".join(part.clause() for part in self.parts if not isinstance(part, Not))
        return (kept or "anything holds") + self._unless()

    def _unless(self) -> str:
        left = " or ".join(part.part.clause() for part in self.parts if isinstance(part, Not))
        return f", but not where {left}" if left else ""


@dataclass(frozen=True)
class Any:
    """At least one part holds."""

    parts: tuple[Predicate, ...]

    def holds(self, text: TokenText) -> Bool[Tensor, " n"]:
        found = self.parts[0].holds(text)
        for part in self.parts[1:]:
            found = found | part.holds(text)
        return found

    def sentence(self) -> str:
        return ", or on ".join(part.sentence() for part in self.parts)

    def clause(self) -> str:
        return "either " + " or ".join(part.clause() for part in self.parts)


def _generality(part: Predicate) -> int:
    """What a sentence names first: the token itself, then what stands just before, then all else; alternatives last."""
    return 100 if isinstance(part, Any) else getattr(part, "back", 8)
