"""A record with a text or a dialogue in one of its fields, as a document."""

import hashlib
from collections.abc import Callable, Mapping, Sequence

from actscope.core.corpus import Document, Span
from actscope.core.errors import ActscopeError, BadInput

Message = Mapping[str, str]  # {"role": "user", "content": "..."}
Render = Callable[[Sequence[Message]], str]  # how a dialogue is written: a chat model's template

MESSAGES = "messages"  # the field of a dialogue, where a record has no text
_SPANS = 'Expected {"start": 0, "end": 4, "label": "name"}: characters of the text from 0, the end left out.'


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


def document_of(value: str | list[Message], render: Render | None, id: str, spans: tuple[Span, ...] = ()) -> Document:
    """What `value_of` gave, as a document: a text as it is, with its spans, a dialogue as `render` writes it."""
    return Document(id, value, spans) if isinstance(value, str) else dialogue(id, value, render)


def spans_of(record: Mapping, field: str, text: str, where: str) -> tuple[Span, ...]:
    """A record's labelled characters, [{"start": 0, "end": 4, "label": "name"}, ...] in `field`; none where that is missing or
    null. Raises BadInput naming the record for anything else, and for characters that the text lacks."""
    listed = record.get(field)
    if listed is None:
        return ()
    if not isinstance(listed, list | tuple):
        raise BadInput(f"{where}: {field!r:.80} is a {type(listed).__name__}; expected a list of spans. {_SPANS}")
    return tuple(_span(one, text, where) for one in listed)


def _span(given: object, text: str, where: str) -> Span:
    found = [given.get(name) for name in ("start", "end", "label")] if isinstance(given, Mapping) else [None] * 3
    start, end, label = found
    if type(start) is not int or type(end) is not int or not isinstance(label, str) or not label:
        raise BadInput(f"{where} holds the span {given!r:.120}. {_SPANS}")
    if not 0 <= start < end <= len(text):
        raise BadInput(
            f"{where}: the span {label!r:.40} at {start}..{end} is not in the text of {len(text)} characters. {_SPANS}"
        )
    return Span(start, end, label)


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
