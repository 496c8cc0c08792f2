"""Many networks side by side and the landscape around them: each measure where its value is known."""

import pytest
import torch
from torch.nn.utils import parameters_to_vector

from actscope.core.errors import NotFinite
from actscope.reproductions._parts.landscape import (
    Nets,
    aligned,
    along,
    averaged,
    cka,
    connectivity,
    curve,
    fresh,
    hessian,
    merged,
    ordered,
    trained,
)


@pytest.fixture(scope="module")
def task():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(200, 5, generator=draw)
    return x, (x[:, 0] * x[:, 1] > 0).long()


def test_the_trace_and_the_largest_eigenvalue_are_those_of_the_whole_matrix(task):
    nets = fresh(2, 3, 5, 2, seed=1)
    trace, top = hessian(nets, *task, probes=500, steps=60, seed=0)
    for number in range(2):
        shapes = [part[number] for part in nets]

        def loss(flat, shapes=shapes):
            parts = [
                part.view_as(like)[None] for part, like in zip(flat.split([s.numel() for s in shapes]), shapes, strict=True)
            ]
            return Nets(*parts).loss(*task)[0]

        whole = torch.autograd.functional.hessian(loss, parameters_to_vector(shapes))
        values = torch.linalg.eigvalsh(whole)
        assert float(trace[number]) == pytest.approx(float(whole.trace()), rel=0.1)
        assert float(top[number]) == pytest.approx(float(values[values.abs().argmax()]), rel=0.02)


def test_networks_are_trained_apart_and_one_that_diverges_is_told(task):
    nets = fresh(2, 8, 5, 2, seed=1)
    given = {"epochs": 15, "batch": 20, "decay": 0.0, "seed": 0}
    last, late = trained(nets, *task, rate=torch.tensor([0.0, 0.05]), **given)
    assert all(torch.equal(one[0], two[0]) for one, two in zip(last, nets, strict=True))
    before, after, between = (float(one.loss(*task)[1]) for one in (nets, last, late))
    assert after < 0.6 * before and between < 0.7 * before and float(last.accuracy(*task)[1]) > 0.85
    other, _ = trained(nets, *task, rate=torch.tensor([0.3, 0.05]), **given)
    torch.testing.assert_close(other.w[1], last.w[1])
    with pytest.raises(NotFinite, match="1000000"):
        trained(nets, *task, rate=torch.tensor([0.05, 1e6]), **given)


def test_a_bent_curve_passes_a_barrier_that_a_straight_line_meets(task):
    nets, _ = trained(fresh(1, 32, 5, 2, seed=1), *task, rate=torch.tensor([0.05]), epochs=30, batch=20)
    other = ordered(nets, torch.arange(31, -1, -1)[None])
    torch.testing.assert_close(other.logits(task[0]), nets.logits(task[0]))
    line = averaged([nets, other])
    bent = curve(nets, other, *task, steps=200, seed=0)
    straight, over = (float(connectivity(nets, middle, other, *task)) for middle in (line, bent))
    assert straight < -0.2 and over > straight / 2
    ends = along(nets, bent, other, torch.tensor([1.0]))
    torch.testing.assert_close(ends.w, other.w)
    assert float(connectivity(nets, nets, nets, *task)) == pytest.approx(0, abs=1e-6)


def test_alignment_undoes_another_order_of_the_units_and_changes_nothing_that_is_said(task):
    nets, order = fresh(2, 12, 5, 2, seed=3), torch.stack([torch.randperm(12), torch.randperm(12)])
    mixed = ordered(nets, order)
    back, mean = aligned(mixed, nets), merged([nets, mixed, ordered(nets, order.flip(1))])
    torch.testing.assert_close(mean.w, nets.w)
    assert not torch.equal(mixed.w, nets.w) and all(torch.equal(a, b) for a, b in zip(back, nets, strict=True))
    torch.testing.assert_close(
        aligned(fresh(2, 12, 5, 2, seed=4), nets).logits(task[0]), fresh(2, 12, 5, 2, seed=4).logits(task[0])
    )


def test_similarity_does_not_see_turns_and_scales_and_is_low_for_what_has_nothing_in_common():
    draw = torch.Generator().manual_seed(0)
    one, two = (torch.randn(1, 400, 6, generator=draw) for _ in range(2))
    turn = torch.linalg.qr(torch.randn(6, 6, generator=draw)).Q
    torch.testing.assert_close(cka(one, 3 * one @ turn + 5), torch.ones(1))
    assert float(cka(one, two)) < 0.1
