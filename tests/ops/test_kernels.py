"""The compiled kernels, under every instruction set this machine has, and the paths without them, equal their plain twins."""

import os
import platform
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from actscope.ops import _native, adam, rebuild, sparse_grad, topk

X86 = platform.machine() in ("x86_64", "AMD64")
SETS = ["off", *(_native.usable() if X86 else ["native"])]


@pytest.fixture(params=SETS, autouse=True)
def kernels(request, monkeypatch):
    """Which path `fast` takes."""
    if request.param == "off":
        monkeypatch.setattr(_native, "available", lambda: False)
    else:
        assert _native.available(), _native.reason()
        monkeypatch.setattr(_native, "instructions", lambda: request.param)
    return request.param


def test_the_best_set_is_the_machines(monkeypatch):
    monkeypatch.undo()
    monkeypatch.delenv("ACTSCOPE_KERNELS", raising=False)
    _native.instructions.cache_clear()
    assert _native.instructions() == SETS[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("m", "k"), [(1, 1), (31, 5), (32, 32), (33, 2), (257, 7), (2000, 64)])
def test_topk_chooses_the_largest_above_zero(m, k, dtype):
    draw = torch.Generator().manual_seed(m)
    scores = torch.randn(50, m, generator=draw).to(dtype)
    scores[3] = -1.0  # none above zero
    scores[4, : m // 2] = -1.0
    scores[5] = 1.0  # all alike
    scores[6, 0] = torch.inf
    index, value = torch.empty(50, k, dtype=torch.long), torch.empty(50, k)
    topk.into(scores, index, value)
    assert torch.equal(value.sort(1, descending=True).values, topk.reference(scores.float(), k)[1])
    assert torch.equal(torch.relu(scores.float()).gather(1, index), value)
    assert all(len(set(row)) == k for row in index.tolist()), "a latent stands twice in a row"


def test_topk_says_that_a_row_holds_nan():
    for nan in (float("nan"), -float("nan")):
        scores = torch.randn(3, 100)
        scores[1, 70] = nan
        value = topk.fast(scores, 4)[1]
        assert value[1].isnan().any() and not value[[0, 2]].isnan().any()


def case(n: int, m: int, d: int, k: int, seed: int):
    draw = torch.Generator().manual_seed(seed)
    atoms = torch.nn.functional.normalize(torch.randn(m, d, generator=draw), dim=1)
    x = torch.randn(n, d, generator=draw)
    index, value = topk.fast((x @ atoms.T - 0.5).contiguous(), k)
    return x, atoms, index, value, torch.randn(d, generator=draw)


@given(st.integers(1, 20), st.integers(1, 40), st.integers(1, 70), st.integers(1, 6), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_rebuild_and_gradients_equal_dense_products(n, m, d, k, seed):
    k = min(k, m)
    x, atoms, index, value, offset = case(n, m, d, k, seed)
    ours, plain = ([torch.empty(n, d), torch.empty(n, k)] for _ in range(2))
    total = rebuild.fast(index, value, atoms, offset, x, 0.7, *ours)
    assert float(total) == pytest.approx(float(rebuild.reference(index, value, atoms, offset, x, 0.7, *plain)), rel=1e-4)
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    groups = sparse_grad.group(index, value, m)
    assert torch.equal(groups.fired.nonzero()[:, 0], index[value != 0].unique())
    for given_atoms in (None, atoms):
        sums, wanted = torch.full((m, d), 9.0), torch.empty(m, d)
        squares = sparse_grad.fast(groups, value, x, 0.3, sums, given_atoms)
        torch.testing.assert_close(
            squares, sparse_grad.reference(groups, value, x, 0.3, wanted, given_atoms), atol=1e-5, rtol=1e-4
        )
        torch.testing.assert_close(sums, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shape", [(7,), (5, 33), (64, 16)])
@pytest.mark.parametrize("unit", [False, True])
def test_adam_takes_the_steps_of_torch(shape, unit):
    if unit and len(shape) == 1:
        pytest.skip("a vector has no rows")
    draw = torch.Generator().manual_seed(0)
    start = torch.randn(shape, generator=draw)
    ours, plain = ([start.clone(), None, torch.zeros(shape), torch.zeros(shape), start.bfloat16()] for _ in range(2))
    theirs = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.Adam([theirs], lr=1e-2)
    for steps in range(1, 6):
        grad = torch.randn(shape, generator=draw) * 10 ** (steps - 4)
        for state, step in ((ours, adam.fast), (plain, adam.reference)):
            step(adam.Slot(state[0], grad.clone(), *state[2:], unit), divisor=2.0, rate=1e-2, steps=steps)
        theirs.grad = grad / 2
        optimizer.step()
        if unit:
            theirs.data /= theirs.data.norm(dim=1, keepdim=True)
    torch.testing.assert_close(ours[0], plain[0], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(ours[0], theirs.data, atol=1e-6, rtol=1e-5)
    assert torch.equal(ours[4], ours[0].bfloat16()), "the copy is not the parameter rounded"


def test_without_kernels_it_is_said_once_and_only_where_they_were_not_asked_away():
    child = (
        "import warnings, actscope.ops._native as native; native._load = lambda: (None, 'they were not built.')\n"
        "with warnings.catch_warnings(record=True) as said:\n"
        "    warnings.simplefilter('always'); native.say_once(); native.say_once()\n"
        "print(len(said), said[0].message if said else '')"
    )
    for asked, count in (("", "1"), ("off", "0")):
        run = [sys.executable, "-c", child]
        out = subprocess.run(run, env={**os.environ, "ACTSCOPE_KERNELS": asked}, capture_output=True, text=True)
        assert out.stdout.split()[0] == count, out.stderr
        assert count == "0" or "not built" in out.stdout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("piece", [3, 40, 64, 100])
def test_topk_of_a_row_in_pieces_is_that_of_the_whole(piece, dtype):
    draw = torch.Generator().manual_seed(piece)
    scores = torch.randn(40, 300, generator=draw).to(dtype)
    scores[3] = -1.0
    scores[4, 5:] = -1.0
    scores[5] = 1.0
    index, value = torch.empty(40, 20, dtype=torch.long), torch.empty(40, 20)
    for start in range(0, 300, piece):
        part = scores[:, start : start + piece].contiguous()
        topk.into(part, index, value, offset=start, last=start + piece >= 300)
    assert torch.equal(value.sort(1, descending=True).values, topk.reference(scores.float(), 20)[1])
    assert torch.equal(torch.relu(scores.float()).gather(1, index), value)
    assert all(len(set(row)) == 20 for row in index.tolist()), "a latent stands twice in a row"
