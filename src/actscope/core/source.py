"""What answers questions in words, such as a language model behind a URL: the seam, and what goes through it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from actscope.core import files


@dataclass(frozen=True)
class Prompt:
    """One question. A question is never altered: asked again with a complaint, it is another one.

    schema: JSON schema of the answer; `system` says the same in words. most: tokens of the answer at most. turns: (answer,
    what was wrong with it) of the same question before.
    """

    system: str
    user: str
    schema: Mapping[str, object]
    most: int = 300
    turns: tuple[tuple[str, str], ...] = ()

    @property
    def messages(self) -> list[dict[str, str]]:
        """The dialogue as {"role", "content"}."""
        said = [{"role": "system", "content": self.system}, {"role": "user", "content": self.user}]
        for answer, complaint in self.turns:
            said += [{"role": "assistant", "content": answer}, {"role": "user", "content": complaint}]
        return said

    def again(self, answer: str, complaint: str) -> "Prompt":
        """The same question after an answer that cannot be used; of long answers only the start is shown."""
        return replace(self, turns=(*self.turns, (answer[:500], complaint)))

    def request(self, source: str) -> str:
        """The name of this question to that source: a hash of all that is asked."""
        asked = {"source": source, "messages": self.messages, "schema": self.schema, "most": self.most}
        return files.sha256(json.dumps(asked, sort_keys=True).encode())


@dataclass(frozen=True)
class Answer:
    """What came back, word for word. model: who says to have answered. ended: why it ended, "stop" where it was whole.
    tokens_in, tokens_out: as billed; None where the source does not say."""

    text: str
    model: str
    ended: str = "stop"
    tokens_in: int | None = None
    tokens_out: int | None = None


@dataclass(frozen=True)
class Unanswered:
    """A question that got no answer, and why."""

    why: str


@runtime_checkable
class Source(Protocol):
    @property
    def name(self) -> str:
        """What its answers depend on: model, place, settings; never a key."""
        ...

    @property
    def at_once(self) -> int | None:
        """Questions it takes at a time; None: as many as you like."""
        ...

    def ask(self, prompt: Prompt) -> Answer:
        """One attempt. Raises Failed where it gave no answer, BadInput where none can ever come from here (no such model,
        a wrong key)."""
        ...

    def tokens(self, prompt: Prompt) -> int:
        """How many tokens the question has; where that is not known, rather too many than too few."""
        ...


class Failed(Exception):
    """One attempt that gave no answer. It never leaves the ledger.

    again: whether the same question may be answered later. after: seconds to wait first, where the source says so.
    body: what came, of an answer that cannot be read. billed: whether the source may have charged for it.
    """

    def __init__(
        self, why: str, *, again: bool = True, after: float | None = None, body: bytes | None = None, billed: bool = False
    ):
        super().__init__(why)
        self.why, self.again, self.after, self.body, self.billed = why, again, after, body, billed
