"""Dialogues as documents: one each, as the template writes them, with who says what."""

import pytest

from actscope.core.errors import BadInput, EmptyCorpus
from actscope.corpora.chats import chats

TALK = [{"role": "user", "content": "Hello. "}, {"role": "assistant", "content": "Hello."}]


def render(messages):
    return "".join(f"<{message['role']}>{message['content'].strip()}</>" for message in messages)


def test_a_dialogue_is_a_document_and_its_spans_say_who_speaks():
    corpus = chats([TALK, TALK[:1]], render)
    first, second = corpus.documents()
    assert first.text == "<user>Hello.</><assistant>Hello.</>" and second.text == "<user>Hello.</>"
    assert [(first.text[span.start : span.end], span.cause) for span in first.spans] == [
        ("Hello.", "role.user"),
        ("Hello.", "role.assistant"),
    ]
    assert first.spans[0].end < first.spans[1].start
    assert corpus.fingerprint != chats([TALK], render).fingerprint


@pytest.mark.parametrize(
    ("given", "template", "error", "message"),
    [
        ([[{"role": "user"}]], render, BadInput, "chats:0 holds .*expected messages"),
        ([TALK], lambda messages: "something else", BadInput, "is not in what the template made"),
        ([], render, EmptyCorpus, "give at least one"),
    ],
)
def test_what_is_no_dialogue_is_refused(given, template, error, message):
    with pytest.raises(error, match=message):
        chats(given, template)
