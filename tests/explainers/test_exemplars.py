"""Examples alone tell where a latent fires as far as the same tokens come back, and no further."""

import pytest
from planted_rules import planted

from actscope.core import artifact
from actscope.core.explanation import Explanation
from actscope.core.predicate import All, Like, Not, Predicate, Repeated, TokenIn
from actscope.core.store import split_documents
from actscope.explainers.exemplars import exemplars

LATENTS: list[Predicate | float] = [
    TokenIn((" Monday", " Friday")), All((TokenIn((" cat", " dog")), TokenIn((" the", " a"), 1))),
    All((TokenIn((" dog", " the", " a", " of")), Not(Repeated()))), 0.1,
]  # fmt: skip


@pytest.fixture(scope="module")
def found() -> dict[int, Explanation]:
    explained = exemplars(*planted(LATENTS, documents=700, length=60), contexts=10)
    return {one.latent: one for one in explained}


def test_a_place_like_an_example_is_where_it_fires(found: dict[int, Explanation]):
    tokens, run = found[0], found[1]
    assert tokens.score("detection").value == run.score("detection").value == 1.0
    assert tokens.evidence["alike"] == 1.0, "the token itself must be the same"
    assert run.evidence["alike"] == 1.5, "the one before it too"


def test_what_no_token_tells_is_told_in_part_and_chance_not_at_all(found: dict[int, Explanation]):
    assert 0.7 < found[2].score("detection").value < 0.98
    assert abs(found[3].score("detection").value - 0.5) < 0.06


def test_the_explanation_is_its_examples_from_the_propose_documents(found: dict[int, Explanation], tmp_path):
    dictionary, subject, store = planted(LATENTS, documents=700, length=60)
    propose = set(split_documents(store, 3, seed=0)[0])
    ids, where = store.text
    words = subject.pieces(ids.tolist())
    for one in found.values():
        assert isinstance(one.rule, Like) and 10 <= len(one.rule.examples) <= 30 and one.method == "exemplars"
        assert one.text.startswith("fires on what resembles ")
    example = found[1].rule.examples[0]  # type: ignore[union-attr]
    ends = [row for row in range(len(words)) if tuple(words[max(0, row - len(example) + 1) : row + 1]) == example]
    assert any(int(where[row, 0]) in propose for row in ends)
    artifact.save(list(found.values()), tmp_path / "found")
    assert artifact.open(tmp_path / "found") == list(found.values())
