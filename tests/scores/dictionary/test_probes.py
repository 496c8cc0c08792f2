"""Probes are what they say: the minimum of their objective, whatever the scale of a column."""

import pytest
import torch

from actscope.scores._parts.probes import logistic, sparse_order


def made(n: int = 400, f: int = 6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, f, generator=draw) * torch.tensor([1.0, 30.0, 0.1, 1.0, 1.0, 1.0])[:f] + 2
    return x, x[:, 0] + x[:, 1] / 30 + torch.randn(n, generator=draw) > 3.5


def test_it_is_the_minimum_of_its_objective():
    x, holds = made()
    probe = logistic(x, holds, penalty=2.0)
    scaled = ((x - x.mean(0)) / x.std(0, correction=0)).double()
    weight = (probe.weight * x.std(0, correction=0)).double().requires_grad_()
    bias = (probe.weight @ x.mean(0) + probe.bias).double().detach().requires_grad_()
    side = torch.where(holds, len(holds) / (2 * holds.sum()), len(holds) / (2 * (~holds).sum()))
    loss = torch.nn.functional.softplus(-torch.where(holds, 1, -1) * (scaled @ weight + bias))
    ((side * loss).sum() + weight.square().sum()).backward()
    assert torch.cat([weight.grad, bias.grad[None]]).abs().max() < 1e-2 and len(holds) * weight.abs().max() > 100


@pytest.mark.parametrize("far", [1.0, 1e4])
def test_scale_and_shift_of_a_column_change_nothing_it_says(far: float):
    x, holds = made()
    moved = x * torch.tensor([far, 1, 1, 1, 1, 1]) + torch.tensor([0, far, 0, 0, 0, 0])
    assert torch.allclose(logistic(x, holds).logit(x), logistic(moved, holds).logit(moved), atol=2e-3 * max(1, far / 1e3))
    assert sparse_order(x, holds)[:2].tolist() == sparse_order(moved, holds)[:2].tolist()


def test_separable_sides_and_constant_columns_are_no_trouble():
    x = torch.zeros(40, 3)
    x[:10, 0] = 1.0
    holds = x[:, 0] > 0
    probe = logistic(x, holds)
    assert bool((probe.says(x) == holds).all()) and torch.isfinite(probe.weight).all()
    assert logistic(x, torch.ones(40, dtype=torch.bool)).says(x).all()


def test_the_l1_order_prefers_one_column_to_its_noisy_copies_and_upward_to_downward():
    draw = torch.Generator().manual_seed(1)
    first, second = torch.rand(2, 3000, generator=draw)
    holds = (first > 0.7) | (second > 0.9)
    copy = first + 0.3 * torch.randn(3000, generator=draw)
    x = torch.stack([copy, first, -first, second, torch.rand(3000, generator=draw)], dim=1)
    assert sparse_order(x, holds)[:2].tolist() == [1, 3]  # the copy is nearer the label than `second`, and adds nothing
