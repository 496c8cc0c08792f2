"""A record with a text or a dialogue in one of its fields, as a document."""

import hashlib
from collections.abc import Callable, Mapping, Sequence

from actscope.core.corpus import Document, Span
from actscope.core.errors import ActscopeError, BadInput

Message = Mapping[str, str]  # {"role": "user", "content": "..."}
Render = Callable[[Sequence[Message]], str]  # how a dialogue is written: a chat model's template

MESSAGES = "messages"  # the field of a dialogue, where a record has no text


def value_of(record: Mapping, column: str, where: str) -> str | list[Message]:
    """A record's text or dialogue; "" for a null, so that the count of documents is the count of records. Raises BadInput
    naming the record for anything else."""
    if column not in record and column == "text" and MESSAGES in record:
        column = MESSAGES
    if column not in record:
        has = ", ".join(map(repr, record)) or "no keys"
        raise BadInput(
            f"{where}: an object with {has:.200}; expected a JSON object with a string {column!r:.80}. Name the field: column=."
        )
    value = record[column]
    if value is None:
        return ""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise BadInput(f"{where}: the text holds half a surrogate pair; expected valid Unicode.") from error
        return value
    if isinstance(value, list | tuple):
        return [_message(message, where) for message in value]
    raise BadInput(f"{where}: {column!r:.80} is a {type(value).__name__}; expected a string, or a list of messages.")


def document_of(value: str | list[Message], render: Render | None, id: str) -> Document:
    """What `value_of` gave, as a document: a text as it is, a dialogue as `render` writes it."""
    return Document(id, value) if isinstance(value, str) else dialogue(id, value, render)


def needs_template(value: str | list[Message], render: Render | None, where: str) -> None:
    """Raises BadInput for a dialogue that nobody can write."""
    if not isinstance(value, str) and render is None:
        raise BadInput(f"{where} is a dialogue; expected a chat model to write it: render=subject.render.")


def dialogue(id: str, messages: Sequence[Message], render: Render | None) -> Document:
    """One dialogue as a document; spans hold "role.user", "role.assistant"... over each message's content."""
    messages = [_message(message, id) for message in messages]
    needs_template(messages, render, id)
    assert render is not None, "checked above"
    spans, after = [], 0
    text = render(messages)
    for message in messages:
        content = message["content"].strip()  # what many templates leave of it
        start = text.find(content, after)
        if start < 0:
            raise BadInput(f"{id}: the content {content!r:.60} is not in what the template made of the dialogue: {text!r:.80}.")
        after = start + len(content)
        if content:
            spans.append(Span(start, after, f"role.{message['role']}"))
    return Document(id, text, tuple(spans), "chat")


def template_hash(render: Render | None) -> str:
    """A hash of how dialogues are written: of what becomes of four fixed ones, and of the refusals among them."""
    if render is None:
        return ""
    digest = hashlib.sha256()
    for roles in ("user", "user assistant", "user assistant user", "system user assistant"):
        messages = [{"role": role, "content": f"{role} says {number}."} for number, role in enumerate(roles.split())]
        try:
            written = render(messages)
        except ActscopeError as error:
            written = type(error).__name__
        digest.update(f"{len(written)}:{written}".encode("utf-8", "backslashreplace"))
    return digest.hexdigest()


def _message(given: object, where: str) -> Message:
    if isinstance(given, Mapping) and isinstance(given.get("role"), str) and isinstance(given.get("content"), str):
        return {"role": given["role"], "content": given["content"]}
    raise BadInput(f'{where} holds {given!r:.80}; expected messages {{"role": ..., "content": ...}}.')
