"""The reproduction of level set traversal: its steps do what they say, where level sets are known, and on digits."""

import pytest
import torch

import actscope as act
from actscope.organisms.digits import digits
from actscope.reproductions import level_set_traversal as module
from actscope.reproductions.level_set_traversal import confidence, level_set_traversal, lowest_on_path, ssim, straight, traverse

STEPS = {"steps": 100, "step": 0.1, "push": 0.0, "gain": 0.0}


@pytest.fixture
def linear():
    """Two classes told apart by the sum of the upper half: level sets are planes."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].weight[0, :32], net[1].bias[:] = 0.2, torch.tensor([0.0, 1.0])
    return act.wrap(net.requires_grad_(False), sites=["1"], example=torch.rand(1, 1, 8, 8))


def test_on_a_plane_it_reaches_the_target_but_for_what_changes_the_confidence(linear):
    draw = torch.Generator().manual_seed(0)
    source, target = (0.25 + 0.4 * torch.rand(3, 1, 8, 8, generator=draw) for _ in range(2))
    source[:, :, :4] += 0.3
    label = torch.zeros(3, dtype=torch.long)
    reached = traverse(linear, source, target, label, **STEPS)
    torch.testing.assert_close(confidence(linear, reached, label), confidence(linear, source, label), atol=1e-4, rtol=0)
    torch.testing.assert_close(reached[:, :, 4:], target[:, :, 4:], atol=1e-3, rtol=0)
    upper = target[:, :, :4] + (source - target)[:, :, :4].mean((2, 3), keepdim=True)
    torch.testing.assert_close(reached[:, :, :4], upper, atol=1e-3, rtol=0)
    random = traverse(linear, source, target, label, **STEPS, draw=draw)
    assert (confidence(linear, random, label) < confidence(linear, source, label) - 0.01).all()
    line = straight(linear, source, target, label, places=50)
    assert (confidence(linear, line, label) >= confidence(linear, source, label) - 0.05).all()
    assert (lowest_on_path(linear, source, target, label) < confidence(linear, source, label) - 0.05).all()
    torch.testing.assert_close(  # on a plane's near side the lowest place of a line is an end of it
        lowest_on_path(linear, source, line, label), torch.minimum(*(confidence(linear, x, label) for x in (source, line)))
    )


def test_a_correction_raises_the_confidence_and_no_pixel_moves_by_more_than_it_may(linear):
    x = torch.full((1, 1, 8, 8), 0.3)
    label = torch.zeros(1, dtype=torch.long)
    pushed = traverse(linear, x, x, label, steps=1, step=0.0, push=0.01, gain=100.0)
    assert confidence(linear, pushed, label) > confidence(linear, x, label)
    torch.testing.assert_close((pushed - x).abs().max(), torch.tensor(0.01), atol=1e-6, rtol=0)


def test_likeness_by_hand():
    x = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(ssim(x, x), torch.ones(2))
    a, b = torch.full((1, 1, 8, 8), 0.2), torch.full((1, 1, 8, 8), 0.6)
    assert float(ssim(a, b)) == pytest.approx((2 * 0.12 + 1e-4) / (0.04 + 0.36 + 1e-4), rel=1e-3)
    assert (ssim(x, 1 - x) < 0).all() and torch.equal(ssim(x, a.expand_as(x)), ssim(a.expand_as(x), x))


@pytest.mark.full
def test_figures_on_digits_are_of_what_was_reached():
    subject, split = digits(0, width=8, epochs=12, moved=False)
    found = module._measured(subject, split.judge, 1, 30, 0.04, 0.01, 1e-5, 0)
    assert found["SSIM to the target"] > found["SSIM to the target, straight line"] > found["SSIM of source and target"]
    assert found["largest drop of confidence"] <= 0.05 + 1e-6
    assert 0 < found["distance to the target left"] < found["distance to the target left, straight line"] < 1


@pytest.mark.full
def test_the_bars_are_reached_on_digits():
    result = level_set_traversal(seeds=(0,), sources=3)
    mean = {name: values[0] for name, values in result.figures.items()}
    assert result.holds and result.ours == mean["SSIM to the target"] >= module.ALIKE
    assert result.baseline == mean["SSIM to the target, straight line"]
    assert result.control == mean["SSIM to the target, random direction"]
    assert mean["SSIM to the target, adversarially trained"] < mean["SSIM to the target"]
