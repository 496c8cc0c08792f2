"""Dialogues as documents, one each, written as a chat model reads them."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from actscope.core.corpus import Document, Span
from actscope.core.errors import BadInput
from actscope.corpora.texts import Texts, texts

__all__ = ["chats"]

Message = Mapping[str, str]  # {"role": "user", "content": "..."}


def chats(given: Iterable[Sequence[Message]], render: Callable[[Sequence[Message]], str], *, name: str = "chats") -> Texts:
    """A Corpus of dialogues: each is one document, so nothing is joined to it and nothing of it is cut off but by the context.

    given: dialogues of messages {"role", "content"}. render: how a dialogue is written, for a model of transformers
    `subject.render`, its chat template. Spans hold "role.user", "role.assistant"... over each message's content.
    Raises BadInput for a message without role and content, and where a content cannot be found in what was rendered;
    EmptyCorpus when there is no dialogue.
    """
    documents = []
    for number, messages in enumerate(given):
        for message in messages:
            if not {"role", "content"} <= set(message):
                raise BadInput(f'Dialogue {number} holds {message!r:.80}; expected messages {{"role": ..., "content": ...}}.')
        documents.append(_document(f"{name}:{number}", messages, render(messages)))
    return texts(documents, name=name)


def _document(id: str, messages: Sequence[Message], text: str) -> Document:
    spans, after = [], 0
    for message in messages:
        content = message["content"].strip()  # what many templates leave of it
        start = text.find(content, after)
        if start < 0:
            raise BadInput(f"{id}: the content {content!r:.60} is not in what the template made of the dialogue: {text!r:.80}.")
        after = start + len(content)
        if content:
            spans.append(Span(start, after, f"role.{message['role']}"))
    return Document(id, text, tuple(spans), "chat")
