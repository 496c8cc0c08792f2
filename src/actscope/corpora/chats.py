"""Dialogues as documents, one each, written as a chat model reads them."""

from collections.abc import Iterable, Sequence

from actscope.corpora._parts.records import Message, Render, dialogue
from actscope.corpora.texts import Texts, texts

__all__ = ["chats"]


def chats(given: Iterable[Sequence[Message]], render: Render, *, name: str = "chats") -> Texts:
    """A Corpus of dialogues: each is one document, so nothing is joined to it and nothing of it is cut off but by the context.

    given: dialogues of messages {"role", "content"}. render: how a dialogue is written, for a model of transformers
    `subject.render`, its chat template. Spans hold "role.user", "role.assistant"... over each message's content.
    Raises BadInput for a message without role and content, and where a content cannot be found in what was rendered;
    EmptyCorpus when there is no dialogue.
    """
    return texts([dialogue(f"{name}:{number}", messages, render) for number, messages in enumerate(given)], name=name)
