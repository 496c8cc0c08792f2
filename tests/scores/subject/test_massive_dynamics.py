"""The five-parameter curve of massive activations over training."""

import pytest
import torch

from actscope.core.errors import BadInput
from actscope.scores._parts.modulated_log import ModulatedLog, fitted, straight
from actscope.scores.subject.massive_dynamics import massive_dynamics

STEPS = [1, 4, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 10_000]


@pytest.mark.parametrize("true", [ModulatedLog(20.0, 0.3, 4e-4, 0.9, 8.0, 1.0), ModulatedLog(8.0, 0.02, 2e-3, 1.1, 5.0, 1.0)])
def test_a_curve_of_the_family_is_found(true):
    y = true.at(torch.tensor(STEPS).double()).tolist()
    assert fitted(STEPS, y).r2 > 0.999


def test_a_ratio_that_grows_is_explained_and_the_same_in_random_orders_is_not():
    grows = (6 + 9 * torch.log1p(torch.tensor(STEPS).double() / 300)).tolist()
    still = (6 + 0.1 * torch.randn(len(STEPS), generator=torch.Generator().manual_seed(0))).tolist()
    whole, growing, idle = massive_dynamics(STEPS, {"layers.0.resid_post": grows, "layers.1.resid_post": still}, shuffles=3)
    assert growing.value > 0.99 and growing.control < 0.8 and growing.parts["last"] == grows[-1]
    assert idle.value < 0.9 and whole.value == pytest.approx((growing.value + idle.value) / 2)
    assert "peak" not in growing.parts and whole.n == 12


def test_a_straight_line_is_explained_whole():
    assert straight([1, 2, 3], [3, 5, 7]) == pytest.approx(1) and straight([1, 2, 3], [1, -1, 1]) == pytest.approx(0)


def test_too_few_checkpoints_are_refused():
    with pytest.raises(BadInput, match="at least 7"):
        massive_dynamics([1, 2, 3], {"layers.0.resid_post": [1.0, 2.0, 3.0]})
