"""The second grammar: the same documents every time, labelled on whole tokens, in words that the first has not."""

import re
from functools import lru_cache
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actscope.core.errors import UsageError
from actscope.organisms.grammar import grammar
from actscope.organisms.second_grammar import second_grammar
from actscope.subjects.load import load
from actscope.tasks._parts.words import ENTITIES


@lru_cache
def _pocket():
    return load("pocket")


def test_a_document_is_a_function_of_seed_and_number():
    corpus = second_grammar(3, 60)
    read = list(corpus.documents())
    assert read == list(second_grammar(3, 60).documents()) and len(read) == len(corpus) == 60
    assert read[40:50] == list(islice(corpus.documents(40), 10)) and corpus.document(7) == read[7]
    assert read != list(second_grammar(4, 60).documents())
    assert corpus.fingerprint == second_grammar(3, 60).fingerprint != second_grammar(4, 60).fingerprint
    with pytest.raises(UsageError, match="documents=0"):
        second_grammar(0, 0)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_spans_are_whole_tokens(seed: int):
    documents = list(second_grammar(seed, 12).documents())
    inputs = _pocket().prepare([document.text for document in documents])
    for document, offsets, special in zip(documents, inputs.offsets.tolist(), inputs.roles.tolist(), strict=True):
        edges = {edge for pair, put in zip(offsets, special, strict=True) if not put for edge in pair}
        assert edges, document.text
        for span in document.spans:
            assert {span.start, span.end} <= edges, (document.text[span.start : span.end], span)


def test_every_character_has_a_cause_and_documents_fit_the_model():
    families = set()
    for document in second_grammar(0, 300).documents():
        families.add(document.family)
        held = {place for span in document.spans for place in range(span.start, span.end)}
        assert held == set(range(len(document.text)))
    assert families == {"log", "recipe", "game", "markup", "couplets", "reaction"}


def test_its_causes_are_its_own():
    def causes(corpus) -> set[str]:
        return {span.cause for document in corpus.documents() for span in document.spans}

    shared = causes(second_grammar(0, 400)) & causes(grammar(0, 400))
    assert all(cause == "none" or cause.startswith("digit.") for cause in shared), shared


def test_what_the_rules_say_holds():
    for document in second_grammar(1, 400).documents():
        held: dict[str, list[str]] = {}
        for span in document.spans:
            held.setdefault(span.cause, []).append(document.text[span.start : span.end].strip())
        if document.family == "markup":
            assert sorted(held["markup.opening"]) == sorted(held["markup.closing"])
        if document.family == "couplets":
            assert len(held["verse.rhyme"]) * 2 == len(held["verse.end"])
            assert len(held.get("verse.and", [])) == document.text.count("Beneath")
        if document.family == "recipe":
            assert set(held["recipe.again"]) <= set(held["recipe.food"][:-2])
        if document.family == "log":
            lines = document.text.strip().split("\n")
            for line, after in zip(lines, lines[1:], strict=False):
                assert ("ERROR" in line) == ("restarting" in after)
        if document.family == "reaction":
            assert document.text.count("heat") == len(held.get("reaction.oxygen", []))


def test_no_word_of_the_first_grammar_that_has_a_cause_is_in_it():
    words = {word for document in second_grammar(0, 500).documents() for word in re.findall(r"[^\W\d_]+", document.text)}
    assert len(words) > 100 and not words & set(ENTITIES)
