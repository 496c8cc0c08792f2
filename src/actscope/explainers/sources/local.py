"""A language model that is loaded here, as a Subject: nothing leaves this machine."""

import json
from typing import Any

from actscope.core.errors import BadInput
from actscope.core.source import Answer, Failed, Prompt
from actscope.core.subject import Subject
from actscope.subjects.engine import generate

__all__ = ["Local"]


class Local:
    """A subject that continues a dialogue: by its own chat template where it has one, else the turns one after another.

    temperature, seed: of its tokens; 0 takes the likeliest. It answers one question at a time.
    """

    at_once = 1

    def __init__(self, subject: Subject, *, temperature: float = 0.0, seed: int = 0):
        self.subject = subject
        self._drawn: dict[str, Any] = {"temperature": temperature, "seed": seed}
        self.name = json.dumps([subject.name, subject.fingerprint, self._drawn], sort_keys=True)

    def tokens(self, prompt: Prompt) -> int:
        """By the subject's own tokenizer."""
        return len(self._ids(prompt))

    def ask(self, prompt: Prompt) -> Answer:
        """Raises Failed for a question that leaves no room for an answer, NotFinite, and Interrupted when asked to stop."""
        ids = self._ids(prompt)
        if len(ids) >= self.subject.context:
            raise Failed(
                f"a question of more tokens than the {self.subject.context} that {self.subject.name} takes", again=False
            )
        said = generate(self.subject, [ids], tokens=prompt.most, **self._drawn)
        ended = "stop" if said.stopped[0] == "end" else "length"
        return Answer(said.text[0], self.subject.name, ended, len(ids), len(said.ids[0]))

    def _ids(self, prompt: Prompt) -> list[int]:
        render = getattr(self.subject, "render", None)
        try:
            text = render(prompt.messages) if render else None
        except BadInput:
            text = None  # no template, or one without a system turn
        if text is None:
            text = "\n\n".join(turn["content"] for turn in prompt.messages) + "\n\n"
        ids = self.subject.prepare(text).ids
        assert ids is not None, "text has ids"
        return ids[0].tolist()
