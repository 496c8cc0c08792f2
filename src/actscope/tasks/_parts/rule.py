"""What every task of the grammar is: a rule that writes items, split into train and test by a hash of the prompt."""

import abc
import hashlib
from collections.abc import Callable
from random import Random
from typing import ClassVar, Literal

from actscope.core.errors import ActscopeError, UsageError
from actscope.core.task import Example
from actscope.tasks._parts.text import Item

_TRIES = 10_000


class Rule(abc.ABC):
    """A task whose items are written from a random source. Subclasses say `name`, `source`, `metric` and `write`."""

    name: ClassVar[str]
    source: ClassVar[str]
    metric: ClassVar[Literal["exact", "mass"]] = "exact"
    items: ClassVar[tuple[int, int]] = (1, 3)  # fewest and most in one document

    @abc.abstractmethod
    def write(self, random: Random) -> Item:
        """One item, from either split."""

    def ask(self, random: Random) -> Item:
        """One item for an example. Default: as documents have it."""
        return self.write(random)

    def draw(self, random: Random, split: str, write: Callable[[Random], Item] | None = None) -> Item:
        """One item whose prompt belongs to `split`, from `write` or `self.write`. One prompt in ten is for testing."""
        if split not in ("train", "test"):
            raise UsageError(f"split={split!r}; expected 'train' or 'test'.")
        for _ in range(_TRIES):
            item = (write or self.write)(random)
            if is_test(item.prompt) == (split == "test"):
                return item
        raise ActscopeError(f"{self.name} gave no {split} item in {_TRIES:,} tries.")

    def examples(self, n: int, *, seed: int, split: str) -> list[Example]:
        """n examples; the same seed gives the same ones, and train and test share no prompt."""
        random = Random(f"{self.name}:{seed}:{split}")
        return [example(self.draw(random, split, self.ask)) for _ in range(n)]


def example(item: Item) -> Example:
    return Example(item.prompt, item.answers, item.wrong, item.corrupted, item.labels)


def is_test(prompt: str) -> bool:
    """Whether a prompt is kept out of every training document: one in ten, by its own hash."""
    return hashlib.blake2b(prompt.encode(), digest_size=2).digest()[0] % 10 == 0
