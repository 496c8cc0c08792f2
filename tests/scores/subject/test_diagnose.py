"""Every measure declares what it costs, and takes no more; what cannot be taken says why."""

import pytest
import torch
from small_models import Told, passages, sentences, subject

from actscope.core import methods
from actscope.core.errors import NotFinite
from actscope.core.labels import Labels
from actscope.dictionaries.identity import Identity
from actscope.scores._diagnose import diagnose, planned
from actscope.scores._parts.cost import Cost, cost_of

NEEDS = {"one pass", "pairs", "samples", "backward", "checkpoints"}


@pytest.fixture(scope="module")
def examined():
    small = subject()
    read = passages(small, sentences(21, words=30))
    places = [d * 2**32 + p for d in range(21) for p in range(1, 31)]
    labels = Labels({"even": torch.tensor(places[::2]), "odd": torch.tensor(places[1::2])})
    given = {"labels": labels, "classes": ["even", "odd"], "dictionary": Identity(reads={"layers.1.resid_post": 16})}
    return small, read, given, diagnose(small, read, given=given)


@pytest.mark.parametrize("name", methods.names("scores.subject"))
def test_a_measure_says_what_it_costs_without_being_run(name):
    cost = cost_of(methods.find("scores.subject", name))
    assert isinstance(cost, Cost) and cost.needs in NEEDS and cost.sentence().startswith(cost.needs)
    assert (cost.tokens(1000, 10) > 0) == (cost.needs != "checkpoints")


def test_what_was_declared_is_what_is_run(examined):
    small, read, given, found = examined
    assert [one.name for one in found] == [one.name for one in planned(read, given)]
    assert {one.name for one in found} == set(methods.names("scores.subject")) - {"massive_dynamics"}
    for one in found:
        assert not one.why and one.scores, f"{one.name}: {one.why}"
        assert one.measured == one.declared or (one.cost.most and 0 < one.measured <= one.declared), one


def test_every_score_has_a_definition_a_number_of_things_and_an_interval_around_it(examined):
    _, _, _, found = examined
    for score in (score for one in found for score in one.scores):
        assert "@" in score.definition and score.n > 0 and score.unit
        assert (
            score.interval is not None and score.interval[0] <= score.value + 1e-9 and score.value - 1e-9 <= score.interval[1]
        )
        assert score.control is not None or score.name.startswith("void_layers")


def test_the_same_seed_gives_the_same_numbers(examined):
    small, read, given, found = examined
    again = diagnose(small, read, given=given, needs=["one pass"])
    before = {one.name: one for one in found}
    for one in again:
        assert [score.value for score in one.scores] == [score.value for score in before[one.name].scores]


def test_what_is_not_given_or_not_there_is_said_and_the_rest_is_measured():
    told = Told({"layers.0.resid_post": lambda ids: ids[..., None].float().expand(*ids.shape, 3) + torch.arange(3)})
    found = {one.name: one for one in diagnose(told, passages(told, ["abcdefghijklm", "nopqrstuvwxyz"]))}
    assert found["word_classes"].why == "needs labels and classes, not given" and found["word_classes"].measured == 0
    assert "has no attn_pattern" in found["attention_sinks"].why and found["massive_activations"].scores


def test_numbers_that_are_not_finite_stop_everything():
    told = Told({"layers.0.resid_post": lambda ids: torch.full((*ids.shape, 3), float("nan"))})
    with pytest.raises(NotFinite, match="layers.0.resid_post of told"):
        diagnose(told, passages(told, ["abcdefghijklm"]))
