"""Prompts with a known answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable


@dataclass(frozen=True)
class Example:
    """One prompt. The model is right when it prefers an answer to every wrong one, or says the answer outright."""

    prompt: str
    answers: tuple[str, ...]  # any of these continuations is right
    wrong: tuple[str, ...] = ()  # what a model without the mechanism would say
    corrupted: str = ""  # the prompt's twin in which the answer no longer follows
    labels: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class Task(Protocol):
    """name; metric: how an example is judged ("exact": greedy continuation is an answer; "mass": the answers together
    are more probable than the wrong ones together)."""

    name: str
    source: str
    metric: Literal["exact", "mass"]

    def examples(self, n: int, *, seed: int, split: Literal["train", "test"]) -> list[Example]:
        """n examples; the same seed gives the same ones, and train and test share no prompt."""
        ...
