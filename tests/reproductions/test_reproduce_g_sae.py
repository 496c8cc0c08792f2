"""The reproduction of Olmo et al. 2024 on a small scale: its figures mean what they say."""

import pytest
import torch
from torch.nn import functional

from actscope.reproductions.g_sae import ACTIVE, SIZE, SMALL, g_sae, model_of, rows_of


@pytest.fixture(scope="module")
def both():
    model = model_of(0)
    return model, rows_of(model, 4000, 0)


def test_every_row_has_one_small_cause_and_it_alone_tells_the_label(both):
    model, rows = both
    assert (rows.small.sum(1) == 1).all() and torch.equal(rows.small.any(0), torch.ones(SMALL, dtype=torch.bool))
    small = rows.x @ model.small.T @ torch.linalg.pinv(model.small.T)  # what lies along small causes
    large = rows.x - small
    assert model.loss(small, rows.label) == pytest.approx(model.loss(rows.x, rows.label), abs=1e-3)
    assert model.loss(large, rows.label) > model.loss(rows.x, rows.label) + 1
    assert small.norm(dim=1).mean() < SIZE * 1.1 < large.norm(dim=1).mean() / ACTIVE**0.5
    assert (model.large @ model.small.T).abs().max() < 1e-5


def test_gradients_are_those_of_the_loss(both):
    model, rows = both
    x = rows.x[:50].clone().requires_grad_(True)
    functional.cross_entropy(x @ model.weight.T, rows.label[:50], reduction="sum").backward()
    torch.testing.assert_close(rows.grads[:50], x.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.full
def test_with_the_gradient_less_is_lost_and_with_that_of_another_row_it_is_not():
    result = g_sae(seeds=(0,), rows=6000, seen=60_000, latents=160, judged=2000)
    mean = {name: values[0] for name, values in result.figures.items()}
    assert result.ours == mean["lost by gradient_sae"] and result.baseline == mean["lost by topk"]
    assert result.control == mean["lost by gradient_sae with another row's gradient"]
    assert result.ours < 0.7 * result.baseline and result.ours < 0.7 * result.control
    assert mean["lost by gradient_sae with the gradient of a label drawn"] < 0.7 * result.baseline
    assert mean["recovered by topk"] < 0.5 and mean["recovered by gradient_sae"] >= mean["recovered by topk"]
    assert result.full is None and result.seconds > 0
