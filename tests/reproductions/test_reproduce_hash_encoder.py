"""The reproduction of neural codes on a small scale: its figures mean what they say."""

import pytest
import torch

import actscope as act
from actscope.reproductions.hash_encoder import NARROW, _means, hash_encoder, neural_codes, redundancy


def test_redundancy_is_the_share_of_codes_that_occurred_before():
    codes = torch.tensor([[1, 0], [1, 0], [0, 1], [1, 0], [0, 0]]).bool()
    assert redundancy(codes) == pytest.approx(2 / 5)
    assert redundancy(codes[2:]) == 0 and redundancy(codes[:1].expand(4, -1)) == 3 / 4


def test_a_code_is_which_units_are_above_zero():
    linear = torch.nn.Linear(4, 3)
    net = torch.nn.Sequential(torch.nn.Flatten(), linear, torch.nn.ReLU())
    subject = act.wrap(net, sites={"layers.0.mlp_pre": "1"}, example=torch.rand(1, 1, 2, 2))
    x = torch.rand(6, 1, 2, 2)
    assert torch.equal(neural_codes(subject, x), linear(x.flatten(1)) > 0)


def test_clusters_are_matched_with_classes_in_any_order():
    labels = torch.arange(100) % 10
    codes = torch.nn.functional.one_hot((labels * 3 + 1) % 10, 10).bool()
    assert _means(codes, labels) == 1.0


@pytest.mark.full
def test_wide_codes_are_unique_and_tell_the_class_and_narrow_ones_are_shared():
    result = hash_encoder(seeds=(0,), widths=(NARROW, 40), epochs=30)
    mean = {name: values[0] for name, values in result.figures.items()}
    assert mean["redundancy at 40"] < 0.7 < 0.9 < mean["redundancy at 3"]
    assert mean["redundancy at 3"] >= 1 - 2**3 / 1000  # three units have eight codes
    assert result.ours == mean["logistic regression at 40"] > 0.6 and result.baseline == mean["network at 40"]
    assert result.control == mean["logistic regression at 40, untrained"] > 0.6 > mean["logistic regression at 3, untrained"]
    assert mean["logistic regression at 40, shuffled classes"] < 0.25
    assert mean["network at 40, untrained"] < 0.4
