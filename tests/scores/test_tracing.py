"""Divergence of predictions at every place, and its peak."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from actscope.scores._parts.tracing import divergence, peak


@given(st.integers(2, 6), st.integers(0, 1000), st.floats(-50, 50))
@settings(max_examples=30, deadline=None)
def test_it_is_the_sum_of_p_log_p_over_q_and_a_shift_of_logits_changes_nothing(v, seed, shift):
    draw = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 3, v, generator=draw), torch.randn(2, 3, v, generator=draw)
    p, q = a.double().softmax(-1), b.double().softmax(-1)
    assert torch.allclose(divergence(a, b), (p * (p / q).log()).sum(-1), atol=1e-5)
    assert torch.allclose(divergence(a + shift, b), divergence(a, b), atol=1e-4)
    assert (divergence(a, a).abs() < 1e-6).all() and (divergence(a, b) > -1e-6).all()


def test_of_two_sure_predictions_it_is_the_surprise():
    clean, other = torch.tensor([[[0.0, -100.0]]]), torch.tensor([[[-3.0, 0.0]]])
    assert float(divergence(clean, other)) == pytest.approx(3.0486, abs=1e-3)  # log(1 + e^3)


def test_the_peak_is_the_highest_place_among_those_given():
    trace = torch.tensor([[0.0, 5.0, 3.0], [4.0, 1.0, 2.0]])
    among = torch.tensor([[True, False, True], [True, True, True]])
    assert peak(trace, among).tolist() == [2, 0]
