"""Features with planted rules over real text: what is said to be true of them is true."""

import pytest
import torch

from actscope.core.errors import BadInput
from actscope.core.predicate import All, Earlier, Ngram, Not, TokenIn
from actscope.core.text import TokenText
from actscope.corpora.standard_library import standard_library
from actscope.explainers.promoted import promoted
from actscope.organisms.planted_rules import Planted, planted_rules
from actscope.scores._parts.reading import Reading
from actscope.scores.explanation.detection import detection
from actscope.stores.capture import capture
from actscope.subjects.load import load


@pytest.fixture(scope="module")
def store():
    return capture(load("pocket"), standard_library(split="held"), ["embed"], tokens=30_000)


@pytest.fixture(scope="module")
def made(store) -> Planted:
    return planted_rules(load("pocket"), store, outputs=4, seed=1)


def test_rules_of_every_kind_hold_often_enough_to_be_judged(made: Planted):
    causes = [feature.cause for feature in made.features if feature.cause is not None]
    kinds = {type(cause) for cause in causes}
    assert {TokenIn, Ngram, All, Earlier} <= kinds and len(causes) >= 24
    assert any(isinstance(cause, All) and any(isinstance(part, Not) for part in cause.parts) for cause in causes)
    assert len(made.latents("output")) == 4 and len(made.latents("both")) >= 8 and len(made.latents("input")) >= 8
    assert (made.store.features[:, : len(causes)] > 0).float().mean(0).min() > 0.003


def test_a_feature_is_active_exactly_where_its_rule_holds(made: Planted):
    subject = load("pocket")
    text = TokenText.of(made.store, subject)
    reading = Reading.of(made.dictionary, made.store, text)
    for latent in made.latents("input", "both"):
        cause = made.features[latent].cause
        assert cause is not None
        assert torch.equal(reading.active(latent)[0], cause.holds(text).nonzero()[:, 0])


def test_true_explanations_are_detected_and_those_of_chance_are_not(made: Planted):
    latents = made.latents("input", "both")
    scores = detection(made.explanations, made.dictionary, load("pocket"), made.store, contexts=60)
    judged = [scores[latent] for latent in latents if latent in scores]
    assert len(judged) >= 20 and min(score.value for score in judged) == 1.0
    assert abs(sum(score.control or 0 for score in judged) / len(judged) - 0.5) < 0.03
    for latent in made.latents("output"):
        assert scores[latent].value < 0.6
        assert "likelier to come next" in made.explanations[latent].text and "fires" not in made.explanations[latent].text


def test_noise_makes_true_explanations_worse(store):
    subject, rule = load("pocket"), TokenIn((" the",))
    clean, noisy = (planted_rules(subject, store, rules=[rule], flip=flip, alarm=flip) for flip in (0.0, 0.3))
    first, second = (
        detection(made.explanations, made.dictionary, subject, made.store, contexts=60)[0].parts for made in (clean, noisy)
    )
    assert first["precision"] == first["recall"] == 1.0
    assert second["precision"] == pytest.approx(0.7, abs=0.06) and second["recall"] == pytest.approx(0.7, abs=0.06)


def test_output_features_promote_their_tokens_and_input_features_do_nothing(made: Planted):
    subject = load("pocket")
    acting, silent = made.latents("both", "output")[:4], made.latents("input")[:2]
    # What is planted is true of text in general, less of what follows one token; how long a direction is planted says nothing.
    anywhere = {"places": 24, "where": "anywhere", "kl": 0.5}
    found = {one.latent: one for one in promoted(made.dictionary, subject, made.store, latents=acting, **anywhere)}
    assert set(found) == set(acting)
    for latent, one in found.items():
        rises = [token for token, _ in one.evidence["rises"]]  # type: ignore[union-attr]
        others = [made.features[other].promotes for other in acting if other != latent]
        own, chance = len(set(rises) & set(made.features[latent].promotes)), max(len(set(rises) & set(them)) for them in others)
        assert own >= 2 and own > chance, (rises, made.features[latent])
    assert not promoted(made.dictionary, subject, made.store, latents=silent, **anywhere)


def test_the_same_seed_gives_the_same_features_and_what_cannot_be_is_refused(made: Planted, store):
    again = planted_rules(load("pocket"), store, outputs=4, seed=1)
    assert again.features == made.features and torch.equal(again.store.features, made.store.features)
    assert planted_rules(load("pocket"), store, outputs=4, seed=2).features != made.features
    with pytest.raises(BadInput, match="holds nowhere"):
        planted_rules(load("pocket"), store, rules=[TokenIn(("no such token",))])
