"""Scores of explanations by any judge: what each tells that the others do not, and its controls."""

import math
import re

import pytest
import torch
from planted_rules import WORDS, planted

from actscope.core.errors import BadInput
from actscope.core.explanation import Explanation
from actscope.core.judge import Judge, by_rule
from actscope.core.methods import find, names
from actscope.core.predicate import All, Any, Earlier, Predicate, Repeated, TokenIn
from actscope.explainers.judges.embedding import Embedding
from actscope.explainers.judges.rule import rule as judge_rule
from actscope.scores.explanation.detection import detection
from actscope.scores.explanation.embedding import embedding
from actscope.scores.explanation.fuzzing import fuzzing
from actscope.scores.explanation.log_loss import log_loss
from actscope.scores.explanation.purity import purity
from actscope.scores.explanation.responsiveness import responsiveness
from actscope.scores.explanation.simulation import simulation

DAYS, NAMES, RARE = WORDS[:5], WORDS[13:16], WORDS[40:48]
RATED = {"purity": purity, "responsiveness": responsiveness}
SCORES = [detection, fuzzing, simulation, log_loss, responsiveness, purity]


def says(rule: Predicate, latent: int = 0) -> Explanation:
    return Explanation(latent, rule.sentence(), "by hand", rule)


@pytest.fixture(scope="module")
def made():
    return planted([TokenIn(DAYS), TokenIn(NAMES), TokenIn(RARE)], documents=150)


def several(made):
    return [says(TokenIn(words), latent) for latent, words in enumerate((DAYS, NAMES, RARE))]


@pytest.mark.parametrize("score", SCORES, ids=lambda one: one.__name__)
def test_the_truth_is_far_above_permuted_labels_and_above_another_latents_explanation(score, made):
    settings = {"window": 8} if score in (responsiveness, purity) else {}
    found = score(several(made), *made, **settings)
    assert set(found) == {0, 1, 2}
    chance = {"simulation": 0.0, "responsiveness": 0.0, "purity": None, "log_loss": None}.get(score.__name__, 0.5)
    for one in found.values():
        assert one.definition == f"{score.__name__}@1" and one.interval[0] - 1e-9 <= one.value <= one.interval[1] + 1e-9
        assert one.value > 0.8 and one.parts["over_other_low"] > 0.2 and one.control < 0.6
        assert chance is None or abs(one.control - chance) < 0.05
        assert one.parts["permuted_low"] <= one.control <= one.parts["permuted_high"]
    assert score(several(made), *made, **settings) == found  # the same seed, the same numbers


@pytest.mark.parametrize("score", SCORES, ids=lambda one: one.__name__)
def test_a_wrong_explanation_gets_no_more_than_permuted_labels(score, made):
    [one] = score([says(TokenIn(NAMES))], *made).values()
    assert one.value < one.control + 0.1
    assert "other" not in one.parts  # nothing else was given to compare with


def test_every_explanation_is_asked_once_and_answers_that_are_missing_are_counted(made):
    asked = []

    def forgetful(explanation, text, rows):
        asked.append(explanation.latent)
        answers = by_rule(explanation, text, rows)
        return torch.where(rows % 4 == 0, torch.nan, answers)

    found = detection(several(made), *made, judge=forgetful)
    assert sorted(asked) == [0, 1, 2]
    for one in found.values():
        assert 0.15 < one.parts["unanswered"] / one.parts["judged"] < 0.35
        assert one.n + one.parts["hard_contexts"] + one.parts["unanswered"] == one.parts["judged"]
        assert one.value == 1.0 and one.n == one.parts["active"] + one.parts["inactive"]
    assert detection(several(made)[:1], *made, judge=lambda e, t, rows: torch.full((len(rows),), torch.nan)) == {}


def test_answers_that_are_no_probabilities_are_refused(made):
    for wrong in (lambda e, t, rows: torch.full((len(rows),), 1.5), lambda e, t, rows: torch.zeros(len(rows) + 1)):
        with pytest.raises(BadInput, match="from 0 to 1"):
            detection(several(made), *made, judge=wrong)


def test_precision_by_rates_is_the_precision_over_all_rows():
    made = planted([TokenIn((" the", " a"))], documents=300, flip=0.5)
    exact = detection([says(TokenIn((" the", " a")))], *made, most=4000)[0]
    rates = detection([says(TokenIn((" the", " a")))], *made, most=4000, judge=lambda *asked: by_rule(*asked))[0]
    assert exact.value == rates.value
    assert rates.parts["precision"] == pytest.approx(exact.parts["precision"], abs=0.03) == pytest.approx(0.5, abs=0.06)


def test_fuzzing_gives_chance_to_an_explanation_of_the_context_that_detection_rewards():
    topic, token = Earlier((" Anna",), 20), TokenIn(RARE)
    made = planted([All((token, topic))], documents=400)
    about, at = says(topic), says(token)
    assert detection([about], *made, contexts=100)[0].value > 0.75
    assert abs(fuzzing([about], *made, window=8, contexts=100)[0].value - 0.5) < 0.1
    assert fuzzing([at], *made, window=8, contexts=100)[0].value > 0.95


def test_log_loss_rewards_doubt_where_the_judge_does_not_know(made):
    unsure: Judge = lambda explanation, text, rows: torch.full((len(rows),), 0.5)  # noqa: E731
    wrong = log_loss([says(TokenIn(NAMES))], *made)[0]
    doubt = log_loss([says(TokenIn(NAMES))], *made, judge=unsure)[0]
    assert wrong.value < -1 < doubt.value == pytest.approx(0, abs=1e-9)
    right = log_loss([says(TokenIn(DAYS))], *made, sure=0.9)[0]
    assert right.value == pytest.approx(1 + math.log2(0.9))
    with pytest.raises(BadInput, match="above 0.5"):
        log_loss([says(TokenIn(DAYS))], *made, sure=0.4)


def test_simulation_is_the_correlation_with_activations_and_silence_tells_nothing(made):
    never: Judge = lambda explanation, text, rows: torch.zeros(len(rows))  # noqa: E731
    assert simulation([says(TokenIn(DAYS))], *made, judge=never)[0].value == 0
    rule, full = TokenIn(DAYS), simulation([says(TokenIn(DAYS))], *made, windows=150 * 90, window=90)[0]
    _, subject, store = made
    ids, where = store.text
    column = store.features[:, 0]
    fires = torch.isin(ids, torch.tensor([WORDS.index(day) for day in rule.tokens]))
    expected = torch.corrcoef(torch.stack([column, fires.float()]))[0, 1]
    assert full.value == pytest.approx(float(expected), abs=0.02)  # all of the text, in windows


def test_a_latent_that_means_more_than_is_said_is_responsive_and_not_pure():
    made = planted([Any((TokenIn(RARE[:2]), TokenIn(RARE[2:])))], documents=200)
    half, whole = says(TokenIn(RARE[:2])), says(Any((TokenIn(RARE[:2]), TokenIn(RARE[2:]))))
    settings = {"window": 8, "samples": 1500, "top": 0.0}
    told = {name: [score([one], *made, **settings)[0].value for one in (whole, half)] for name, score in RATED.items()}
    assert min(told["purity"][0], told["responsiveness"][0]) > 0.95
    assert told["purity"][1] < 0.5 < 0.6 < told["responsiveness"][1]
    graded: Judge = lambda explanation, text, rows: by_rule(explanation, text, rows) / 2  # noqa: E731
    assert purity([whole], *made, judge=graded) == {}  # everything is unclear or does not hold


def words(texts):
    """Counts of words, a column each."""
    columns = {word.strip(): column for column, word in enumerate(WORDS)}
    table = torch.full((len(texts), len(WORDS)), 1e-6)
    for number, text in enumerate(texts):
        for word in re.findall(r"\w+", text):
            if word in columns:
                table[number, columns[word]] += 1
    return table


def test_an_encoder_of_words_tells_where_a_latent_fires_and_the_judge_agrees(made):
    three = several(made)
    found = embedding(three, *made, encoder=words, window=2, most=200)
    for one in found.values():
        assert one.value > 0.85 and one.parts["over_other_low"] > 0.2 and abs(one.control - 0.5) < 0.05
    judge = Embedding(words, window=2)
    loss = detection(three, *made, judge=lambda *asked: (judge(*asked) > 0.55).float(), most=200)
    assert all(one.value > 0.7 for one in loss.values())
    with pytest.raises(BadInput, match="one a text"):
        embedding(three, *made, encoder=lambda texts: torch.ones(3, 2))
    with pytest.raises(BadInput, match="at least 1"):
        Embedding(words, window=0)


def test_the_judges_are_a_room_of_methods(made):
    assert {"rule", "embedding"} <= set(names("explainers.judges"))
    _, _, store = made
    assert find("explainers.judges", "rule") is judge_rule
    for score in SCORES:
        kept = score(several(made)[:1], *made, judge=judge_rule)
        assert kept[0].value == score(several(made)[:1], *made)[0].value
    with pytest.raises(BadInput, match="no rule"):
        fuzzing([Explanation(0, "anything", "by hand")], *made)
    assert fuzzing([says(Repeated(), 0)], *made)[0].value < 0.7
