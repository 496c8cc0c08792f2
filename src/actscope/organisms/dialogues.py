"""Dialogues of the grammar's rules: a user asks, an assistant answers, and what was said before can be asked for again.

Dialogue i is a pure function of (seed, split, i). Each is one document in the chat template of `chat`:

    <|user|>Mary counts: Monday, Tuesday,<|end|><|assistant|> Wednesday.<|end|><|user|>Say that again.<|end|>...
"""

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from actscope.core import methods
from actscope.core.corpus import Document
from actscope.core.errors import UsageError
from actscope.tasks._parts.rule import Rule
from actscope.tasks._parts.text import spans

__all__ = ["dialogues"]

VERSION = 1
USER, ASSISTANT, END = "<|user|>", "<|assistant|>", "<|end|>"
RULES = ("addition", "facts", "greater_than", "ioi", "refusal", "successor")  # those that pocket-mini knows, and that are short
AGAIN = ("Say that again.", "What did you say?", "Please repeat.")
_AGAIN = 0.35  # how often a later turn asks for the answer before it
_TURNS = (1, 4)
_ROOM = 230  # characters beyond which no turn is added


@dataclass(frozen=True)
class Turn:
    """What the user says and what the assistant answers. cause: the rule, or "again"."""

    said: str
    answer: str
    cause: str


@dataclass(frozen=True)
class Dialogues:
    """A corpus of `size` dialogues. Raises UsageError for another split."""

    seed: int
    size: int
    split: str

    @property
    def name(self) -> str:
        return f"dialogues-{self.split}-{self.seed}"

    @property
    def fingerprint(self) -> str:
        """Hash of the settings and of the first dialogues, which change when a rule does."""
        first = [self.document(number).text for number in range(min(self.size, 64))]
        return hashlib.sha256(json.dumps([VERSION, self.seed, self.size, self.split, first]).encode()).hexdigest()

    def __len__(self) -> int:
        return self.size

    def documents(self, start: int = 0) -> Iterator[Document]:
        """The dialogues from number `start` on."""
        return (self.document(number) for number in range(start, self.size))

    def document(self, number: int) -> Document:
        """Dialogue `number`."""
        text, marks = "", []
        for turn in self.turns(number):
            for role, words in ((USER, turn.said), (ASSISTANT, turn.answer)):
                place = len(text) + len(role)
                text += f"{role}{words}{END}"
                marks.append((place, place + len(words), f"role.{role[2:-2]}"))
                if role == ASSISTANT:
                    marks.append((place, place + len(words), f"answer.{turn.cause}"))
        digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        return Document(f"dialogue-{number}-{digest}", text, spans(text, marks), "dialogue")

    def turns(self, number: int) -> list[Turn]:
        """The turns of dialogue `number`."""
        random = Random(f"dialogues:{self.seed}:{self.split}:{number}")
        turns: list[Turn] = []
        length = 0
        for _ in range(random.randint(*_TURNS)):
            if turns and random.random() < _AGAIN:
                turn = Turn(random.choice(AGAIN), turns[-1].answer, "again")
            else:
                name = random.choice(RULES)
                item = _rule(name).draw(random, self.split)
                turn = Turn(item.prompt.removeprefix("User: ").removesuffix(" Reply:"), item.text[item.cut :], name)
            length += len(turn.said) + len(turn.answer)
            if turns and length > _ROOM:
                break
            turns.append(turn)
        return turns

    def messages(self, number: int) -> list[dict[str, str]]:
        """Dialogue `number` as messages {"role", "content"}."""
        pairs = [(("user", turn.said), ("assistant", turn.answer)) for turn in self.turns(number)]
        return [{"role": role, "content": content} for pair in pairs for role, content in pair]


def dialogues(seed: int = 0, documents: int = 10_000, *, split: str = "train") -> Dialogues:
    """The dialogues that `chat` was fine-tuned on (split="train"), or some whose every question was kept out ("test").

    Spans say who speaks ("role.user"), what an answer follows from ("answer.successor", "answer.again") and what its words are.
    Raises UsageError for another split.
    """
    if split not in ("train", "test"):
        raise UsageError(f"split={split!r}; expected 'train' or 'test'.")
    return Dialogues(seed, documents, split)


def render(messages: Sequence[Mapping[str, str]]) -> str:
    """Messages as one text, as the chat template of `chat` writes them."""
    return "".join(f"<|{message['role']}|>{message['content']}{END}" for message in messages)


@functools.cache
def _rule(name: str) -> Rule:
    return methods.find("tasks", name)()  # type: ignore[operator]
