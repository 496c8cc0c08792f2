"""Massive activations, attention sinks and lazy neurons, where each is known in closed form."""

import pytest
import torch
from small_models import Told, passages, sentences, subject

from actscope.core.errors import BadInput
from actscope.scores.subject.activation_sparsity import activation_sparsity
from actscope.scores.subject.attention_sinks import attention_sinks
from actscope.scores.subject.massive_activations import massive_activations

TEXTS = ["abcdefghijklmnop", "qrstuvwxyzabcdefgh", "abcabcabcabcabcabc"]


def stream(scale: float, top: float):
    """Of size `scale` everywhere, but for `top` times that in dimension 2 at the first token."""

    def made(ids):
        x = scale * torch.ones(*ids.shape, 8)
        x[:, 1::2] *= -1
        x[:, 0, 2] = -scale * top
        return x

    return made


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_the_ratio_is_that_of_the_largest_to_the_median_at_any_scale(scale):
    told = Told({"layers.0.resid_post": stream(scale, 7.0), "layers.1.resid_post": stream(scale, 50.0)})
    whole, first, second = massive_activations(told, passages(told, TEXTS))
    assert first.value == pytest.approx(7) and second.value == pytest.approx(50) and whole.value == second.value
    assert second.interval == pytest.approx((50, 50)) and second.n == 3
    assert second.parts["dim 2"] == 1 and second.parts["token '<s>'"] == 1 and second.parts["first"] == 1
    assert second.parts["top"] == pytest.approx(50 * scale) and second.parts["massive"] == 0
    assert 2 < second.control < 6  # normal draws: sqrt(2 log n) over 0.67


def test_massive_is_over_100_and_over_1000_times_the_median():
    for scale, massive in ((1.0, 1), (0.05, 0)):
        told = Told({"layers.0.resid_post": stream(scale, 1500.0)})
        assert massive_activations(told, passages(told, TEXTS))[0].parts["massive"] == massive


def causal(ids):
    return torch.ones(ids.shape[1], ids.shape[1]).tril().expand(len(ids), 1, -1, -1)


def uniform(ids):
    return causal(ids) / causal(ids).sum(-1, keepdim=True)


def to_first(ids):
    return torch.nn.functional.one_hot(torch.zeros(ids.shape[1]).long(), ids.shape[1]).float().expand(len(ids), 1, -1, -1)


def to_itself(ids):
    return torch.eye(ids.shape[1]).expand(len(ids), 1, -1, -1)


def test_a_sink_is_a_token_that_gets_more_than_its_share_from_all_that_see_it():
    heads = Told({"layers.0.attn_pattern": lambda ids: torch.cat([to_first(ids), to_itself(ids)], 1)})
    found = attention_sinks(heads, passages(heads, TEXTS))[1]
    assert found.value == 0.5 and found.control == 0.0
    assert found.parts["head 0"] == 1 and found.parts["four"] == pytest.approx(0.5)
    told = Told({"layers.0.attn_pattern": uniform})
    even = attention_sinks(told, passages(told, ["abcdefghi"]), epsilon=0.2)[
        1
    ]  # ten tokens: alpha(1) = mean of 1, 1/2 ... 1/10
    assert even.parts["first"] == pytest.approx(sum(1 / i for i in range(1, 11)) / 10) and even.value == 1


def test_attention_to_itself_is_no_sink():
    told = Told({"layers.0.attn_pattern": to_itself})
    found = attention_sinks(told, passages(told, TEXTS), epsilon=0.15)[0]
    assert found.value == 0 and found.parts["first"] == pytest.approx(sum(1 / n for n in (17, 19, 19)) / 3)


def test_texts_too_short_for_sinks_are_refused():
    told = Told({"layers.0.attn_pattern": uniform})
    with pytest.raises(BadInput, match="longer documents"):
        attention_sinks(told, passages(told, ["abc"]))


def test_open_neurons_are_those_that_relu_leaves():
    signs = torch.tensor([1.0, -2.0, -0.5, -3.0])
    told = Told(
        {
            "layers.0.mlp_pre": lambda ids: signs.expand(*ids.shape, 4),
            "layers.0.mlp_post": lambda ids: signs.relu().expand(*ids.shape, 4),
        }
    )
    whole, layer = activation_sparsity(told, passages(told, TEXTS))
    assert whole.value == layer.value == 0.25 and layer.parts == {"effective": 0.25, "nonzero": 0.25} and layer.control == 0.5


def test_in_a_model_with_relu_open_and_not_zero_are_one_and_scaling_changes_neither():
    small = subject()
    found = activation_sparsity(small, passages(small, sentences(6)))
    assert all(one.value == pytest.approx(one.parts["nonzero"], abs=1e-9) for one in found)
    assert all(one.parts["effective"] <= one.parts["nonzero"] for one in found) and 0.2 < found[0].value < 0.8
