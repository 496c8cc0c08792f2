"""The grammar: the same documents every time, labelled on whole tokens, with nothing of the test split in training."""

from functools import lru_cache
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actscope.core import methods
from actscope.core.errors import UnknownMethod, UsageError
from actscope.organisms.grammar import grammar
from actscope.subjects.load import load
from actscope.tasks._parts.rule import is_test


def test_a_document_is_a_function_of_seed_and_number():
    corpus = grammar(3, 60)
    read = list(corpus.documents())
    assert read == list(grammar(3, 60).documents())
    assert read[40:50] == list(islice(corpus.documents(40), 10))
    assert [document.text for document in read] == list(corpus.texts())
    assert corpus.document(7) == read[7]
    assert read[:50] != list(grammar(4, 60).documents())[:50]
    assert corpus.fingerprint == grammar(3, 60).fingerprint != grammar(4, 60).fingerprint


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_spans_are_whole_tokens(seed: int):
    documents = list(grammar(seed, 8).documents())
    inputs = _pocket().prepare([document.text for document in documents])
    for document, offsets, special in zip(documents, inputs.offsets.tolist(), inputs.roles.tolist(), strict=True):
        edges = {edge for pair, put in zip(offsets, special, strict=True) if not put for edge in pair}
        for span in document.spans:
            assert {span.start, span.end} <= edges, (document.text[span.start : span.end], span)
            assert document.text[span.start : span.end].strip() or span.cause == "none"


@lru_cache
def _pocket():
    return load("pocket")


def test_every_character_has_a_cause_and_none_stands_alone():
    causes = set()
    for document in grammar(0, 300).documents():
        held: list[set[str]] = [set() for _ in document.text]
        for span in document.spans:
            causes.add(span.cause)
            for place in range(span.start, span.end):
                held[place].add(span.cause)
        assert all(held)
        assert all(here == {"none"} for here in held if "none" in here)
    rules = {f"rule.{name}" for name in methods.names("tasks")}
    assert causes >= rules | {"none", "ioi.answer", "name.mary", "day.monday", "color.red", "tone.formal", "bracket.depth2"}


def test_training_documents_hold_no_test_prompt():
    held = {example.prompt for example in methods.find("tasks", "greater_than")().examples(500, seed=0, split="test")}  # type: ignore[operator]
    for document in grammar(0, 500, rules=["greater_than"]).documents():
        for line in document.text.split("\n"):
            assert line[: line.rfind(" ") + 3] not in held
    for document in grammar(0, 40, rules=["refusal"], split="test").documents():
        asked = [line[: line.index(" Reply:") + 7] for line in document.text.split("\n") if " Reply:" in line]
        assert all(is_test(prompt) for prompt in asked)


def test_rules_come_in_the_shares_asked_for():
    families = [document.family for document in grammar(0, 400, rules={"ioi": 3.0, "tone": 1.0}).documents()]
    assert 0.65 < families.count("ioi") / 400 < 0.85 and set(families) == {"ioi", "tone"}


def test_what_cannot_be_is_refused():
    with pytest.raises(UsageError, match="'dev'"):
        grammar(split="dev")
    with pytest.raises(UnknownMethod, match="ioi"):
        grammar(rules=["iol"])
