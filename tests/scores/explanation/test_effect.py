"""An effect is found where one was planted, and only there; controls act, and runs that share a prefix are exact."""

import pytest
import torch
from planted_causes import RAISED, SITE, VOCABULARY, WIDTH, dictionary_of, planted_subject, store_of

from actscope.core.errors import BadInput, WrongSubject
from actscope.core.explanation import Explanation
from actscope.core.intervention import Add
from actscope.scores._parts.studentized import studentized
from actscope.scores._parts.variants import run_variants
from actscope.scores.explanation.effect import effect

SELECT, REPORT = range(0, 60), range(60, 120)


@pytest.fixture(scope="module")
def measured():
    subject, direction = planted_subject()
    dictionary = dictionary_of(direction)
    store = store_of(subject)
    explained = [Explanation(latent, "something", "by hand") for latent in (*range(21), 30, 31, 32)]
    return effect(explained, dictionary, subject, store, select=SELECT, report=REPORT, positions=24, draws=5000)


def test_a_planted_cause_is_found_in_both_directions(measured):
    planted = measured[0]
    ablate, steer = planted.score("ablate"), planted.score("steer")
    assert RAISED in planted.evidence["target_ids"]
    assert ablate.value < -0.3 and ablate.interval[1] < 0 and ablate.parts["caused"] == 1
    assert steer.value > 0.05 and steer.interval[0] > 0 and steer.parts["caused"] == 1
    assert abs(ablate.control) < abs(ablate.value) / 3
    assert ablate.n == 24 and ablate.unit == "nats" and ablate.parts["p"] <= 0.05


def test_latents_that_do_nothing_are_not_said_to_cause(measured):
    """The controls of these act and their own effect is 0, so feature - control alone may well exclude 0."""
    nulls = measured[1:21]
    assert all(abs(score.value) < 1e-5 for null in nulls for score in null.scores)
    assert not any(score.parts["caused"] for null in nulls for score in null.scores)


def test_controls_act_at_the_same_places(measured):
    scores = [score for explanation in measured for score in explanation.scores if explanation.evidence["targets"]]
    assert len(scores) >= 4, "the planted latent and random directions have targets"
    for score in scores:
        assert score.parts["control_size"] > 1e-4, "random directions moved nothing"
        assert score.parts["positions"] >= score.n > 12


def test_a_latent_whose_ablation_moves_no_token_steadily_has_no_target(measured):
    for explanation in measured:
        if not explanation.evidence["targets"]:
            assert all(score.n == 0 and score.interval is None and not score.parts["caused"] for score in explanation.scores)


def test_an_effect_does_not_depend_on_what_else_is_reported(measured):
    subject, direction = planted_subject()
    [alone] = effect(
        measured[:1], dictionary_of(direction), subject, store_of(subject), select=SELECT, report=REPORT, positions=24,
        draws=5000,
    )  # fmt: skip
    assert alone.scores[-2].value == pytest.approx(measured[0].score("ablate").value, abs=1e-5)


def test_variants_that_share_a_prefix_equal_full_runs():
    subject, _ = planted_subject()
    sequences = [torch.randint(0, VOCABULARY, (length,)) for length in (5, 17, 24)]
    spots = torch.tensor([[0, 0], [0, 4], [1, 9], [2, 23], [2, 3], [2, 4], [1, 16]])
    v = 5
    added = torch.randn(len(spots), v, WIDTH)
    seen = []
    for here, logits in run_variants(subject, SITE, sequences, spots, lambda spot: added[spot], v):
        for spot, got in zip(here.tolist(), logits, strict=True):
            sequence, index = spots[spot].tolist()
            ids = sequences[sequence][: index + 1].expand(v, -1)
            value = torch.zeros(v, index + 1, WIDTH)
            value[:, -1] = added[spot]
            expected = subject.run(ids, write=[Add(SITE, value)]).logits[:, -1]
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
            seen.append(spot)
    assert sorted(seen) == list(range(len(spots)))


def test_a_site_that_reaches_no_logit_is_refused():
    subject, direction = planted_subject()
    with torch.no_grad():
        subject.model.get_output_embeddings().weight.zero_()
    explained = [Explanation(0, "something", "by hand")]
    with pytest.raises(BadInput, match="changes no logit"):
        effect(explained, dictionary_of(direction), subject, store_of(subject), select=SELECT, report=REPORT, positions=12)


def test_targets_must_be_fixed_on_other_documents_and_on_the_same_subject():
    subject, direction = planted_subject()
    dictionary, store = dictionary_of(direction), store_of(subject, n=20)
    explained = [Explanation(0, "something", "by hand")]
    with pytest.raises(BadInput, match="other documents"):
        effect(explained, dictionary, subject, store, select=[1, 2], report=[2, 3])
    dictionary.subject = "0" * 64
    with pytest.raises(WrongSubject, match="trained on"):
        effect(explained, dictionary, subject, store, select=[1, 2], report=[3])


def test_a_latent_in_too_few_documents_has_no_interval():
    subject, direction = planted_subject()
    dictionary, store = dictionary_of(direction), store_of(subject)
    [few] = effect(
        [Explanation(0, "something", "by hand")], dictionary, subject, store, select=SELECT, report=range(60, 66), draws=5000
    )
    assert few.score("ablate").interval is None and few.score("ablate").parts["caused"] == 0
    assert few.score("ablate").parts["p"] == 1


def test_intervals_hold_far_in_the_tails():
    """Means of 0 with heavy tails: p-values below 0.01 are about as rare as they say."""
    generator = torch.Generator().manual_seed(1)
    normal = torch.randn(600, 40, generator=generator)
    heavy = normal / ((torch.randn(600, 40, 3, generator=generator) ** 2).mean(-1)).sqrt()
    for kind in (normal, heavy):
        tests = [studentized(row, torch.arange(40), draws=2000, seed=0) for row in kind]
        assert sum(test.p <= 0.01 for test in tests) <= 14  # 6 expected
        assert all((test.p <= 0.05) == (not test.interval(0.05)[0] <= 0 <= test.interval(0.05)[1]) for test in tests[:50])
    assert studentized(normal[0] + 3, torch.arange(40), draws=2000, seed=0).p < 0.002
