"""Labels at tokens are what the spans say."""

import pytest
import torch

from actscope.core.corpus import Document, Span
from actscope.core.errors import EmptyCorpus
from actscope.organisms.grammar import grammar
from actscope.organisms.truth import truth
from actscope.subjects.load import load


@pytest.fixture(scope="module")
def pocket():
    return load("pocket")


class _Fixed:
    name, fingerprint = "fixed", ""

    def __init__(self, *documents: Document):
        self.held = documents

    def documents(self, start: int = 0):
        return iter(self.held[start:])


def test_a_token_holds_the_causes_of_its_characters(pocket):
    corpus = grammar(0, 4, rules=["ioi"])
    labels = truth(corpus, pocket)
    for number, document in enumerate(corpus.documents()):
        inputs = pocket.prepare([document.text])
        for position, (start, end) in enumerate(inputs.offsets[0].tolist()):
            held = labels.at(torch.tensor([[number, position]]))
            expected = {span.cause for span in document.spans if start < span.end and span.start < end}
            assert {cause for cause in labels.causes if bool(held[cause])} == expected


def test_real_text_holds_none(pocket):
    labels = truth(_Fixed(Document("a", "def f(): pass"), Document("b", "x y", (Span(0, 1, "cause.x"),))), pocket)
    assert set(labels.causes) == {"none", "cause.x"}
    assert bool(labels.at(torch.tensor([[0, 2]]))["none"])
    assert not bool(labels.at(torch.tensor([[0, 0]]))["none"]), "the token that stands for no text holds no cause"


def test_part_of_a_corpus(pocket):
    corpus = grammar(0, 12)
    labels = truth(corpus, pocket, start=5, documents=3)
    assert {int(key) >> 32 for keys in labels.holds.values() for key in keys} == {5, 6, 7}
    with pytest.raises(EmptyCorpus, match="number 12"):
        truth(corpus, pocket, start=12)
