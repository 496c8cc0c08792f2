"""The calibration error in closed form."""

import pytest
import torch

from actscope.scores._parts.calibration import calibration_error


def test_it_is_the_gap_between_what_is_said_and_what_is_right():
    sure = torch.tensor([0.9, 0.9, 0.9, 0.9, 0.6, 0.6])
    said = torch.stack([sure, 1 - sure], 1)
    labels = torch.tensor([0, 0, 0, 1, 0, 1])  # 3 of 4 right at 0.9, 1 of 2 at 0.6
    assert calibration_error(said, labels) == pytest.approx((4 * 0.15 + 2 * 0.1) / 6, abs=1e-6)


def test_a_bin_is_judged_as_a_whole_and_one_bin_is_the_mean_gap():
    said = torch.tensor([[0.81, 0.19], [0.85, 0.15]])
    labels = torch.tensor([0, 1])  # of one bin of ten: mean 0.83, accuracy 0.5
    assert calibration_error(said, labels, bins=10) == pytest.approx(0.33, abs=1e-6)
    assert calibration_error(torch.tensor([[1.0, 0.0], [0.5, 0.5]]), torch.tensor([0, 0]), bins=1) == pytest.approx(0.25)


def test_sure_and_right_is_zero_and_sure_and_wrong_is_one():
    said = torch.eye(3)
    assert calibration_error(said, torch.arange(3)) == 0 and calibration_error(said, torch.tensor([1, 2, 0])) == 1
