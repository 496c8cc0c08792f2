"""The grammar: documents written by rules, every character labelled by its causes.

Document i is a pure function of (seed, i): it draws a rule, writes one or more items of it, and sometimes adds plain
sentences that no rule caused, or an item of another rule. Characters that nothing caused hold the cause "none".
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from random import Random

from actscope.core import methods
from actscope.core.corpus import Document
from actscope.core.errors import UsageError
from actscope.tasks._parts.rule import Rule
from actscope.tasks._parts.text import Mark, spans
from actscope.tasks._parts.words import NAMES, OBJECTS, PLACES
from actscope.tasks.addition import Addition

__all__ = ["grammar"]

VERSION = 1
_PLAIN, _OTHER = 0.25, 0.15  # how often plain sentences and items of another rule are added
_ROOM = 220  # characters beyond which nothing is added
_WHAT = ("morning", "road", "weather", "evening", "door", "street", "garden", "air", "house", "light", "window", "crowd")
_IS = ("quiet", "long", "cold", "warm", "open", "empty", "bright", "dark", "slow", "busy", "pleasant", "strange")
_DOES = ("looked at", "walked past", "forgot", "thought of", "cleaned", "painted", "waited near", "talked about")


@dataclass(frozen=True)
class Grammar:
    """A corpus of `size` documents. Raises UsageError for an unknown rule or split."""

    seed: int
    size: int
    weights: tuple[tuple[str, float], ...]
    split: str
    digits: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"grammar-{self.split}-{self.seed}"

    @property
    def fingerprint(self) -> str:
        """Hash of the settings and of the first documents, which change when a rule does."""
        settings = [VERSION, self.seed, self.size, self.weights, self.split, self.digits]
        first = list(islice(self.texts(), 64))
        return hashlib.sha256(json.dumps([settings, first]).encode()).hexdigest()

    def __len__(self) -> int:
        return self.size

    def documents(self, start: int = 0) -> Iterator[Document]:
        """The documents from number `start` on."""
        rules = self._rules()
        return (_labelled(*self._write(number, rules)) for number in range(start, self.size))

    def texts(self, start: int = 0) -> Iterator[str]:
        """The documents' texts alone, which are made several times faster."""
        rules = self._rules()
        return (self._write(number, rules)[1] for number in range(start, self.size))

    def document(self, number: int) -> Document:
        """Document `number`."""
        return _labelled(*self._write(number, self._rules()))

    def _rules(self) -> dict[str, Rule]:
        return {name: Addition(self.digits) if name == "addition" else _rule(name) for name, _ in self.weights}

    def _write(self, number: int, rules: Mapping[str, Rule]) -> tuple[str, str, list[Mark]]:
        random = Random(f"{self.seed}:{self.split}:{number}")
        names = list(rules)
        family = random.choices(names, [weight for _, weight in self.weights])[0]
        rule = rules[family]
        parts = [rule.draw(random, self.split) for _ in range(random.randint(*rule.items))]
        pieces = [(part.text, part.marks) for part in parts]
        room = _ROOM - sum(len(text) for text, _ in pieces)
        if room > 0 and random.random() < _OTHER:
            other = rules[random.choice(names)].draw(random, self.split)
            pieces += [(other.text, other.marks)] if len(other.text) < room else []
        if room > 0 and random.random() < _PLAIN:
            pieces.insert(random.choice((0, len(pieces))), (_plain(random), ()))
        text, marks = "", []
        for piece, inside in pieces:
            text += "\n" if text else ""
            marks += [(start + len(text), end + len(text), cause) for start, end, cause in inside]
            text += piece
        return family, text, marks


def grammar(
    seed: int = 0,
    documents: int = 10_000,
    *,
    rules: Iterable[str] | Mapping[str, float] | None = None,
    split: str = "train",
    digits: tuple[int, ...] = (1, 2, 3),
) -> Grammar:
    """The labelled corpus that pocket was trained on (split="train"), or one whose every prompt was kept out ("test").

    rules: which rules, or how often each (default: all, equally). digits: lengths of the numbers to add. Cheap at any
    document number. Raises UsageError for an unknown split, UnknownMethod for an unknown rule.
    """
    if split not in ("train", "test"):
        raise UsageError(f"split={split!r}; expected 'train' or 'test'.")
    names = rules or methods.names("tasks")
    weights = dict(names) if isinstance(names, Mapping) else dict.fromkeys(names, 1.0)
    for name in weights:
        methods.find("tasks", name)
    return Grammar(seed, documents, tuple(sorted(weights.items())), split, tuple(digits))


def _rule(name: str) -> Rule:
    return methods.find("tasks", name)()  # type: ignore[operator]


def _labelled(family: str, text: str, marks: list[Mark]) -> Document:
    digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    return Document(f"{family}-{digest}", text, spans(text, marks), family)


def _plain(random: Random) -> str:
    """One or two sentences that follow no rule; only what their words are is labelled."""
    found = []
    for _ in range(random.randint(1, 2)):
        if random.random() < 0.5:
            found.append(f"The {random.choice(_WHAT)} was {random.choice(_IS)} near the {random.choice(PLACES)}.")
        else:
            found.append(f"{random.choice(NAMES)} {random.choice(_DOES)} the {random.choice(_IS)} {random.choice(OBJECTS)}.")
    return " ".join(found)
