"""A model that is loaded here answers by its own tokens, counted exactly."""

import pytest

from actscope.core.ledger import Ledger
from actscope.core.source import Failed, Prompt, Source
from actscope.explainers.sources.endpoint import Endpoint
from actscope.explainers.sources.local import Local
from actscope.subjects.engine import generate
from actscope.subjects.load import load
from fake_server import FakeServer


@pytest.fixture(scope="module")
def subject():
    return load("pocket-mini")


def test_its_answer_is_what_the_subject_writes(subject, tmp_path):
    prompt, source = Prompt("While Anna and Ben", "were there,", {}, most=6), Local(subject)
    whole = "While Anna and Ben\n\nwere there,\n\n"
    expected = generate(subject, whole, tokens=6)
    with Ledger(source, tmp_path) as ledger:
        [(_, answer)] = ledger.ask([prompt])
        assert answer.text == expected.text[0] and answer.tokens_out == len(expected.ids[0])
        assert answer.tokens_in == source.tokens(prompt) == len(expected.prompts[0]) and ledger.spent.estimated == 0


def test_a_chat_model_is_asked_by_its_template(subject):
    class Chat:
        def __getattr__(self, name):
            return getattr(subject, name)

        def render(self, messages):
            return "|".join(turn["role"] for turn in messages)

    prompt = Prompt("s", "u", {}).again("a", "c")
    assert Local(Chat()).tokens(prompt) == len(subject.prepare("system|user|assistant|user").ids[0])


def test_a_question_without_room_for_an_answer_is_not_asked_twice(subject):
    with pytest.raises(Failed, match="more tokens than") as failed:
        Local(subject).ask(Prompt("the cat sat " * 1000, "", {}))
    assert not failed.value.again and not failed.value.billed


def test_both_are_sources(subject):
    with FakeServer() as server:
        assert isinstance(Local(subject), Source) and isinstance(Endpoint(server.url, "m"), Source)
