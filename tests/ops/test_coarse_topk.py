"""The k largest by way of int8 are those of the product in bfloat16."""

import math
import platform

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from actscope.core.batch import Batch
from actscope.core.site import Port
from actscope.dictionaries.topk import TopK
from actscope.ops import _native, coarse_topk
from actscope.ops.coarse_topk import Coarse
from actscope.training.plan import Plan

SETS = _native.usable() if platform.machine() in ("x86_64", "AMD64") else ["native"]


@pytest.fixture(params=SETS, autouse=True)
def kernels(request, monkeypatch):
    """Every instruction set this machine has. Where it does not multiply int8, torch's product may saturate: ours stands in."""
    assert _native.available(), _native.reason()
    monkeypatch.setattr(_native, "instructions", lambda: request.param)
    if not _native.multiplies_int8():
        monkeypatch.setattr(torch, "_int_mm", lambda one, other, *, out: out.copy_(one.double() @ other.double()))


def encoder(m: int, d: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(m, d).to(torch.bfloat16), 0.3 * torch.randn(m)


def found(x, weight, bias, k):
    """(index, value, which rows int8 left undecided)."""
    index, value = torch.full((len(x), k), -1), torch.full((len(x), k), math.nan)
    coarse, tile = Coarse.of(weight), torch.empty(coarse_topk.cells(len(x), len(weight)), dtype=torch.int32)
    doubtful = coarse_topk._decided(x, weight, coarse, bias, index.clone(), value.clone(), tile)
    coarse_topk.into(x, weight, coarse, bias, index, value, tile)
    return index, value, doubtful


def check(x, weight, bias, k, index, value, near=1e-5):
    """That these are the k largest above zero, each with its value, up to `near` of the longest product."""
    scores = (x.to(torch.bfloat16).double() @ weight.double().T + bias.double()).relu()
    size = near * float(x.norm(dim=1).max() * weight.float().norm(dim=1).max() + bias.abs().max())
    assert ((index >= 0) & (index < len(weight))).all()
    assert all(len(set(row)) == k for row in index.tolist()), "a latent twice"
    torch.testing.assert_close(value.double(), scores.gather(1, index), rtol=0, atol=size)
    least = scores.topk(k, dim=1).values[:, -1]
    assert (scores.gather(1, index).amin(1) >= least - size).all(), "a larger one was left out"


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 70), st.integers(16, 600), st.integers(2, 90), st.integers(1, 6), st.integers(0, 10**6))
def test_they_are_the_k_largest(n, m, d, k, seed):
    torch.manual_seed(seed)
    x, (weight, bias) = torch.randn(n, d), encoder(m, d)
    k = min(k, m // 4)
    index, value, doubtful = found(x, weight, bias, k)
    if (decided := ~doubtful).any():
        check(x[decided], weight, bias, k, index[decided], value[decided])
    check(x, weight, bias, k, index, value, near=0.02)


def test_every_row_of_common_numbers_is_decided(monkeypatch):
    monkeypatch.setattr(coarse_topk, "ROWS", 100)
    monkeypatch.setattr(coarse_topk, "WIDE", 700)
    torch.manual_seed(0)
    x, (weight, bias) = torch.randn(350, 512), encoder(4096, 512)
    index, value, doubtful = found(x, weight, bias, 32)
    assert not doubtful.any()
    check(x, weight, bias, 32, index, value)
    expected, _ = coarse_topk.reference(x, weight, bias, 32)
    assert (index.sort(1).values == expected.sort(1).values).float().mean() > 0.999


def test_a_row_with_immense_coordinates_goes_through_bfloat16():
    torch.manual_seed(0)
    x, (weight, bias) = torch.randn(40, 512), encoder(2048, 512)
    x[3, 5] = x[20, 100] = 3000.0
    weight[:, 5] = weight[:, 100] = 0.0
    index, value, doubtful = found(x, weight, bias, 8)
    assert doubtful.nonzero()[:, 0].tolist() == [3, 20]
    check(x[~doubtful], weight, bias, 8, index[~doubtful], value[~doubtful])
    scores = x.to(torch.bfloat16).float() @ weight.float().T + bias
    torch.testing.assert_close(value[3].sort().values, scores[3].topk(8).values.sort().values, rtol=0.01, atol=0)


def test_where_int8_decides_little_the_rest_is_not_tried(monkeypatch):
    monkeypatch.setattr(coarse_topk, "ROWS", 10)
    torch.manual_seed(0)
    x, (weight, bias) = torch.randn(30, 64), encoder(512, 64)
    x[:5, 0], weight[:, 0] = 1e5, 0.0
    index, value, doubtful = found(x, weight, bias, 8)
    assert doubtful.tolist() == [True] * 5 + [False] * 5 + [True] * 20
    check(x, weight, bias, 8, index, value, near=0.01)


def test_rows_with_hardly_anything_above_zero():
    torch.manual_seed(0)
    x, (weight, bias) = torch.randn(20, 64), encoder(512, 64)
    index, value, doubtful = found(x, weight, bias - 22.0, 8)
    assert doubtful.any() and (value == 0).any() and (value > 0).any()
    check(x, weight, bias - 22.0, 8, index, value, near=0.01)


def test_what_is_not_a_number_stays_so():
    torch.manual_seed(0)
    x, (weight, bias) = torch.randn(20, 64), encoder(512, 64)
    x[4, 0] = math.nan
    _, value, doubtful = found(x, weight, bias, 8)
    assert doubtful[4] and value[4].isnan().all() and value[torch.arange(20) != 4].isfinite().all()
    weight[7, 3] = math.nan
    _, value, doubtful = found(x, weight, bias, 8)
    assert doubtful.all() and value.isnan().all(), "a latent that is not a number is hidden"


@pytest.mark.parametrize("heavy", [False, True])
def test_the_error_of_int8_is_what_it_is_said_to_be(heavy):
    torch.manual_seed(0)
    x, (weight, _) = torch.randn(200, 384), encoder(1000, 384)
    x = (x**3 if heavy else x).to(torch.bfloat16)
    rows, coarse = Coarse.of(x), Coarse.of(weight)
    torch.testing.assert_close(rows.length, x.float().norm(dim=1))
    near = rows.step[:, None] * coarse.step * (rows.rows.double() @ coarse.rows.double().T)
    variance = (rows.step[:, None] * coarse.length) ** 2 / 12 + (coarse.step * rows.length[:, None]) ** 2 / 12
    deviations = (near - x.double() @ weight.double().T) / variance.sqrt()
    assert 0.85 < float(deviations.std()) < 1.05 and float(deviations.abs().max()) < 6


def test_it_pays_only_in_bfloat16_with_many_latents():
    many = torch.randn(4096, 64)
    assert not coarse_topk.pays(many, 8)
    assert not coarse_topk.pays(many[:64].bfloat16(), 8)
    assert not coarse_topk.pays(many[:, :1].bfloat16().contiguous(), 8)
    assert coarse_topk.pays(many.bfloat16(), 8) == _native.multiplies_int8()


def test_training_by_way_of_int8_is_training_in_bfloat16(monkeypatch):
    port = Port.parse("layers.0.mlp_in")
    generator = torch.Generator().manual_seed(0)
    atoms = torch.nn.functional.normalize(torch.randn(128, 32, generator=generator), dim=1)
    batches = [
        (torch.rand(256, 128, generator=generator) < 0.03).float() * torch.rand(256, 128, generator=generator) @ atoms
        for _ in range(60)
    ]
    lost = {}
    for name in ("int8", "bfloat16", "resumed"):
        monkeypatch.setattr(coarse_topk, "pays", lambda *_, there=name != "bfloat16": there)
        made = TopK(reads={port: 32}, n_latents=256, k=4, seed=1).train()
        made.begin(Batch({port: batches[0]}, torch.zeros(256, 2, dtype=torch.long)))
        step = made.fused(Plan(matmul="bfloat16"))
        assert step is not None and (step.coarse is not None) == (name != "bfloat16")
        lost[name] = []
        for number, rows in enumerate(batches):
            if name == "resumed" and number == 30:
                before = {key: one.clone() for key, one in step.state().items()}
                step = made.fused(Plan(matmul="bfloat16"))
                step.load(before)
            lost[name].append(step.step(Batch({port: rows}, torch.zeros(256, 2, dtype=torch.long)), 1e-2, 0.0)["loss"])
            step.after_step(0.0)
    assert lost["int8"][-1] < 0.7 * lost["int8"][0]
    assert lost["int8"] == lost["resumed"]
    ends = [sum(lost[name][-20:]) for name in ("int8", "bfloat16")]
    assert 0.97 < ends[0] / ends[1] < 1.03
