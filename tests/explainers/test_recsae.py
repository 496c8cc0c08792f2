"""Latents described by the items that raise them: what was planted is found, and noise predicts nothing."""

import pytest
import torch
from planted_rules import planted

from actscope.core import artifact
from actscope.core.errors import BadInput, WrongSubject
from actscope.core.explanation import Explanation
from actscope.core.predicate import Often, PositionIn, Predicate
from actscope.core.store import split_documents
from actscope.explainers.recsae import _another, recsae

ANIMALS, NAMES = (" cat", " dog", " runs", " walking"), (" Anna", " Ben", " Carla")
PLANTED: list[Predicate] = [Often(ANIMALS, 2, 4), Often(NAMES, 1, 6), Often((" Monday", " Friday"), 1, 1), PositionIn(0, 7)]
NOISE = 0.1


@pytest.fixture(scope="module")
def found() -> dict[int, Explanation]:
    explained = recsae(*planted([*PLANTED, NOISE, 0.0005], documents=300, length=60))
    worths = [one.evidence["select"] for one in explained]
    assert worths == sorted(worths, reverse=True)
    return {one.latent: one for one in explained}


@pytest.mark.parametrize("latent", [0, 1, 2])
def test_the_items_that_raise_a_latent_are_named_and_predict_it(found: dict[int, Explanation], latent: int):
    one = found[latent]
    assert isinstance(one.rule, Often) and set(one.rule.tokens) == set(PLANTED[latent].tokens)
    score = one.score("confidence")
    assert score.value > 0.95 > 0.5 > score.control
    assert min(score.parts["precision"], score.parts["recall"]) > 0.9
    assert score.interval[0] <= score.value <= score.interval[1]
    assert all(raised > 0 for _, raised in one.evidence["raises"]) and one.score("detection").value > 0.9
    assert all(token.strip() in one.text for token in one.rule.tokens)


def test_the_rule_that_was_planted_is_the_one_found(found: dict[int, Explanation]):
    assert (found[0].rule.least, found[0].rule.within) == (2, 4)
    assert (found[1].rule.least, found[1].rule.within) == (1, 6)


def test_noise_is_predicted_no_better_than_that_of_another_sequence(found: dict[int, Explanation]):
    score = found[4].score("confidence")
    assert abs(score.value - score.control) < 0.05 and score.value < 0.25
    assert score.parts["precision"] == pytest.approx(NOISE, abs=0.03)


def test_what_items_do_not_cause_has_little_confidence(found: dict[int, Explanation]):
    assert found[3].score("confidence").value < 0.5


def test_a_latent_that_is_hardly_active_is_left_out(found: dict[int, Explanation]):
    assert 5 not in found and found[0].evidence["tried"]["asked"] == 6 and found[0].evidence["tried"]["explained"] == 5


def test_confidence_is_measured_on_sequences_that_took_no_part():
    dictionary, subject, store = planted([PLANTED[0]], documents=120, length=60)
    whole = recsae(dictionary, subject, store)[0]
    report = set(split_documents(store, 3)[2])
    rows = torch.isin(store.text[1][:, 0], torch.tensor(sorted(report)))
    store.features[rows] = store.features[rows].roll(17, 0)
    broken = recsae(dictionary, subject, store)[0]
    assert broken.rule == whole.rule and whole.score("confidence").value > 0.95
    assert broken.score("confidence").value < 0.5  # nothing of report reached the rule
    assert whole.score("confidence").n == len(report)


def test_the_control_is_of_other_documents():
    where = torch.tensor([[document, place] for document in range(7) for place in range(document % 3 + 1)])
    other = _another(where)
    assert (where[other, 0] != where[:, 0]).all() and (where[other, 1] <= where[:, 1]).all()


def test_explanations_are_saved(found: dict[int, Explanation], tmp_path):
    artifact.save(found[0], tmp_path / "one")
    assert artifact.open(tmp_path / "one") == found[0]


def test_what_cannot_be_is_refused():
    dictionary, subject, store = planted([0.5], documents=40, length=30)
    with pytest.raises(BadInput, match="latents from 0 to 0"):
        recsae(dictionary, subject, store, latents=[1])
    with pytest.raises(BadInput, match="windows"):
        recsae(dictionary, subject, store, windows=(0,))
    with pytest.raises(BadInput, match="need some"):
        recsae(dictionary, subject, store, documents=[0])
    dictionary.subject = "another"
    with pytest.raises(WrongSubject):
        recsae(dictionary, subject, store)
