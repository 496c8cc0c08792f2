"""The direct path from a decoder direction to the logits: right where no layer stands between, and measured where some do."""

import pytest
import torch

from actscope.core.errors import BadInput
from actscope.core.explanation import Explanation
from actscope.core.lens import kurtosis, lens
from actscope.core.predicate import TokenIn
from actscope.explainers.logit_lens import logit_lens
from actscope.organisms.grammar import grammar
from actscope.organisms.planted_rules import Planted, planted_rules
from actscope.stores.capture import capture
from actscope.subjects.load import load


@pytest.fixture(scope="module")
def made() -> Planted:
    subject = load("pocket")
    store = capture(subject, grammar(5, 400), ["embed"], tokens=9000)
    return planted_rules(subject, store, outputs=4)


@pytest.fixture(scope="module")
def found(made: Planted) -> list[Explanation]:
    return logit_lens(made.dictionary, load("pocket"), made.store, places=16)


def test_the_tokens_a_direction_raises_are_found(made: Planted, found: list[Explanation]):
    for one, feature in zip(found, made.features, strict=True):
        if feature.promotes:
            top = [token for token, _ in one.evidence["promotes"]]  # type: ignore[union-attr]
            assert len(set(feature.promotes) & set(top)) >= 3, (feature.promotes, top)  # of six among 2,048; chance: 0.02
            assert top[0] in feature.promotes
            assert one.rule == TokenIn(tuple(top)) and repr(top[0]) in one.text
            assert one.evidence["chance"] == 0.0, "more peaked than any random direction"
            values = [value for _, value in one.evidence["promotes"]]  # type: ignore[union-attr]
            assert values == sorted(values, reverse=True) and values[0] > 0 > one.evidence["suppresses"][0][1]  # type: ignore[index]


def test_the_lens_agrees_with_steering_where_no_layer_stands_between(made: Planted, found: list[Explanation]):
    for latent in made.latents("both", "output"):
        score = found[latent].score("direct_path")
        assert score.value > 0.8 and score.interval is not None and score.interval[0] > 0.7
        assert score.control is not None and abs(score.control) < 0.2
    assert {one.score("direct_path").n for one in found} == {16}


def test_the_lens_is_the_unembedding_behind_the_norm_whatever_the_length():
    subject = load("pocket")
    directions = torch.randn(3, 128, generator=torch.Generator().manual_seed(0))
    change = lens(subject, directions)
    weights = subject.weights()
    gain = next(value for name, value in weights.items() if name.endswith("final_layer_norm.weight")).float()
    unembed = next(value for name, value in weights.items() if name.endswith(("lm_head.weight", "embed_out.weight"))).float()
    centred = directions - directions.mean(1, keepdim=True)
    expected = torch.nn.functional.normalize(centred, dim=1) * 128**0.5 * gain @ unembed.T
    expected = expected - expected.mean(1, keepdim=True)
    assert torch.allclose(change, expected, atol=1e-3 * float(expected.abs().max()))
    assert torch.allclose(lens(subject, 7 * directions), change, atol=1e-4)


def test_kurtosis_of_known_spreads():
    normal = torch.randn(1, 200_000, generator=torch.Generator().manual_seed(0))
    spike = torch.zeros(1, 1000).index_fill_(1, torch.tensor([3]), 1.0)
    assert float(kurtosis(normal)) == pytest.approx(3.0, abs=0.1)
    assert float(kurtosis(spike)) == pytest.approx(1000, rel=0.01)
    assert float(kurtosis(5 * spike + 2)) == pytest.approx(float(kurtosis(spike)), rel=1e-4)


def test_a_width_without_a_way_to_the_logits_is_refused(made: Planted):
    with pytest.raises(BadInput, match="width 7"):
        lens(load("pocket"), torch.randn(2, 7))
    with pytest.raises(BadInput, match="0 to"):
        logit_lens(made.dictionary, load("pocket"), made.store, latents=[999])
