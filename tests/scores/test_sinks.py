"""Attention that tokens get, and massive activations, in closed form."""

import pytest
import torch

from actscope.scores._parts.sinks import massive, received


def test_a_token_gets_the_mean_over_those_that_see_it():
    pattern = torch.tensor([[1.0, 0, 0], [0.25, 0.75, 0], [0.5, 0.25, 0.25]]).view(1, 1, 3, 3)
    mask = torch.ones(1, 3, dtype=torch.bool)
    alpha, seen_by = received(pattern, mask)
    assert alpha[0, 0].tolist() == pytest.approx([1.75 / 3, 1 / 2, 0.25]) and seen_by[0].tolist() == [3, 2, 1]
    alpha, seen_by = received(pattern, mask, causal=False)
    assert alpha[0, 0].tolist() == pytest.approx([1.75 / 3, 1 / 3, 0.25 / 3]) and seen_by[0].tolist() == [3, 3, 3]


def test_padding_neither_pays_nor_is_paid():
    pattern = torch.full((1, 2, 4, 4), 0.5)
    mask = torch.tensor([[True, True, True, False]])
    alpha, seen_by = received(pattern, mask)
    assert alpha[0, 1].tolist() == pytest.approx([0.5, 0.5, 0.5, 0]) and seen_by[0].tolist() == [3, 2, 1, 0]


def test_massive_is_measured_in_medians_of_the_sequence():
    x = torch.ones(2, 3, 4)
    x[0, 1, 2] = -50.0
    x[1] *= 10
    x[1, 2, 0] = 50.0  # five medians there
    mask = torch.ones(2, 3, dtype=torch.bool)
    assert massive(x, mask, 20.0).nonzero().tolist() == [[0, 1, 2]]
    assert massive(100 * x, mask, 20.0).nonzero().tolist() == [[0, 1, 2]]
    assert massive(x, mask, 5.0).nonzero().tolist() == [[0, 1, 2], [1, 2, 0]]
    mask[0, 1] = False
    assert not massive(x, mask, 20.0).any()
