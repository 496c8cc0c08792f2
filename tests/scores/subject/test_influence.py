"""Influence goes forward, and only through attention."""

import pytest
import torch
from small_models import Told, passages, sentences, subject

from actscope.core.errors import BadInput
from actscope.scores.subject.influence import influence


def test_without_attention_a_token_sways_its_own_prediction_and_no_later_one():
    deaf = subject(deaf=True)
    near, own, *later = influence(deaf, passages(deaf, sentences(8)))
    assert own.name == "influence:lag 0" and own.value > 0.1 and own.control > 0.01
    assert near.value == pytest.approx(0, abs=1e-9) and all(one.value == pytest.approx(0, abs=1e-9) for one in later)


def test_with_attention_later_ones_are_swayed_and_lags_hold_every_place_once():
    small = subject()
    read = passages(small, sentences(8))
    near, *lags = influence(small, read, draws=1)
    assert (
        near.value > 0
        and near.interval[0] > 0
        and [one.name for one in lags][:4] == [f"influence:lag {n}" for n in (0, 1, 2, 4)]
    )
    places = sum(one.parts["places"] for one in lags)
    assert 8 * 10 <= places <= 8 * 19  # of 20 words, one in the first half is replaced; 19 predict another
    again = influence(small, read, draws=1)
    assert [one.value for one in again] == [near.value, *(one.value for one in lags)]


def test_a_subject_that_predicts_nothing_has_no_influence():
    told = Told({"layers.0.resid_post": lambda ids: torch.ones(*ids.shape, 4)})
    with pytest.raises(BadInput, match="predicts no next token"):
        influence(told, passages(told, ["abcdefgh"]))
