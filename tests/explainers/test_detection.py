"""Detection measures how well a rule tells where a latent fires."""

from dataclasses import replace

import pytest
from planted_rules import WORDS, planted

from actscope.core.errors import BadInput
from actscope.core.explanation import Explanation
from actscope.core.predicate import All, Not, Predicate, Repeated, TokenIn
from actscope.scores.explanation.detection import detection

DAYS = (" Monday", " Tuesday", " Wednesday", " Thursday", " Friday")


def says(rule: Predicate, latent: int = 0) -> Explanation:
    return Explanation(latent, rule.sentence(), "by hand", rule)


def score_of(rule: Predicate, made, **settings):
    return detection([says(rule)], *made, **settings)[0]


def test_degrading_the_true_rule_in_steps_lowers_detection():
    made = planted([TokenIn(DAYS)], documents=150)
    narrower = [score_of(TokenIn(DAYS[:keep]), made).value for keep in (5, 4, 3, 2, 1)]
    wider = [score_of(TokenIn(DAYS + WORDS[5 : 5 + more]), made).value for more in (0, 8, 16, 24, 60)]
    for values in (narrower, wider):
        assert values[0] == 1.0 and values[-1] < 0.75
        assert all(before > after for before, after in zip(values, values[1:], strict=False)), values


def test_recall_specificity_and_precision_are_what_they_say():
    made = planted([TokenIn((" the", " a"))], documents=150, flip=0.5)  # silent at half of the places
    score = score_of(TokenIn((" the",)), made)
    assert score.parts["recall"] == pytest.approx(0.5, abs=0.05)
    assert score.parts["precision"] == pytest.approx(0.5, abs=0.05)
    assert score.value == pytest.approx((score.parts["recall"] + score.parts["specificity"]) / 2)
    assert score.interval[0] < score.value < score.interval[1]
    assert score.definition == "detection@1" and score.parts["active"] >= 200 and score.parts["inactive"] >= 200


def test_hard_contexts_show_what_the_token_alone_does_not_tell():
    truth = All((TokenIn(DAYS), Not(Repeated())))
    made = planted([truth], documents=250)
    token, full = score_of(TokenIn(DAYS), made), score_of(truth, made)
    assert token.value > 0.85 and token.parts["hard"] == pytest.approx(0.5, abs=0.02)
    assert full.value == full.parts["hard"] == 1.0
    assert "hard" not in score_of(TokenIn(DAYS), planted([TokenIn(DAYS)], documents=150)).parts  # never silent there


def test_permuted_labels_give_chance_for_any_rule():
    made = planted([TokenIn(DAYS)], documents=150)
    for rule in (TokenIn(DAYS), TokenIn((" the",)), Repeated()):
        score = score_of(rule, made)
        assert 0.45 <= score.control <= 0.55
        assert score.parts["permuted_low"] < score.control < score.parts["permuted_high"]


def test_too_few_contexts_give_no_score():
    made = planted([TokenIn(DAYS), 0.002, 0.999], documents=150)
    scores = detection([says(TokenIn(DAYS), latent) for latent in range(3)], *made)
    assert set(scores) == {0}
    assert set(detection([says(TokenIn(DAYS), 1)], *made, contexts=5)) == {1}


def test_the_threshold_is_a_share_of_the_largest_value_and_weak_places_belong_to_neither_side():
    made = planted([TokenIn(DAYS)], documents=300)
    every, strong = score_of(TokenIn(DAYS), made, most=5000), score_of(TokenIn(DAYS), made, most=5000, above=0.5)
    assert strong.parts["active"] == pytest.approx(every.parts["active"] * 0.5, rel=0.15)
    assert strong.value == every.value == 1.0


def test_only_the_documents_given_are_judged():
    made = planted([TokenIn(DAYS)], documents=200)
    score = score_of(TokenIn(DAYS), made, documents=range(100))
    assert score.parts["documents"] == 100


def test_an_explanation_without_a_rule_is_refused():
    made = planted([TokenIn(DAYS)], documents=150)
    with pytest.raises(BadInput, match="no rule"):
        detection([replace(says(TokenIn(DAYS)), rule=None)], *made)
