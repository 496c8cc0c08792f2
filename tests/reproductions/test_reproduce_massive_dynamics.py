"""Prediction with a row left out, and the reproduction scaled far down."""

import pytest
import torch

from actscope.reproductions.massive_dynamics import SHAPES, left_out, massive_dynamics


def test_a_plane_is_predicted_whole_and_noise_is_not():
    draw = torch.Generator().manual_seed(0)
    x = torch.cat([torch.ones(8, 1), torch.randn(8, 2, generator=draw)], 1).double()
    assert left_out(x, x @ torch.tensor([3.0, 2.0, -1.0]).double()) == pytest.approx(1)
    assert left_out(x, torch.randn(8, generator=draw).double()) < 0.5


@pytest.mark.full
def test_every_model_is_followed(monkeypatch):
    assert len(SHAPES) == 8
    monkeypatch.setattr("actscope.reproductions.massive_dynamics.SHAPES", SHAPES[:2])
    result = massive_dynamics(seeds=(0,), steps=12, texts=2)
    assert result.slug == "massive-dynamics" and result.seeds == (0,)
    mean = {name: values[0] for name, values in result.figures.items()}
    assert mean["last ratio"] > 1 and mean["large layers"] >= 0 and result.baseline == mean["R2 of a line"]
