"""The screened top k is that of the product in float64, entry by entry, whatever lies close together."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from actscope.ops import _native, encode_topk, exact_topk

PATHS = (
    [*((one, half) for one in [*_native.usable(), "off"] for half in (True, False))] if _native.available() else [("off", True)]
)


@pytest.fixture(params=PATHS, ids=lambda path: f"{path[0]}-{'bf16' if path[1] else 'fp32'}", autouse=True)
def path(request, monkeypatch):
    """The instruction set ("off": without kernels), and whether the approximations are in bfloat16."""
    instructions, half = request.param
    monkeypatch.setattr(_native, "multiplies_bfloat16", lambda: half)
    if instructions == "off":
        monkeypatch.setattr(_native, "available", lambda: False)
    else:
        monkeypatch.setattr(_native, "instructions", lambda: instructions)


def same(x, weight, bias, k):
    """Indices and values, bit for bit, wherever a value is above zero."""
    index, value = exact_topk.fast(x, weight, bias, k)
    wanted, best = exact_topk.reference(x, weight, bias, k)
    assert all(len(set(row)) == k for row in index.tolist()), "a latent stands twice in a row"
    order = torch.where(value > 0, index, len(weight) + index).argsort(1)
    wanted_order = torch.where(best > 0, wanted, len(weight) + wanted).argsort(1)
    value, best = value.gather(1, order), best.gather(1, wanted_order)
    assert torch.equal(value, best)
    assert torch.equal(index.gather(1, order)[best > 0], wanted.gather(1, wanted_order)[best > 0])


@given(
    n=st.integers(1, 70), m=st.integers(1, 300), d=st.integers(1, 40), k=st.integers(1, 20),
    spread=st.sampled_from([0.0, 1.0, 3.0]), scale=st.sampled_from([1e-20, 1e-3, 1.0, 1e4]), seed=st.integers(0, 10**6),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_it_is_the_answer_of_the_product_in_float64(n, m, d, k, spread, scale, seed):
    """spread: by how many orders of magnitude latents differ in length."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=draw) * scale
    weight = torch.randn(m, d, generator=draw) * 10 ** (spread * torch.randn(m, 1, generator=draw))
    bias = scale * torch.randn(m, generator=draw) * torch.randint(0, 2, (1,), generator=draw)
    same(x, weight, bias, min(k, m))


@given(seed=st.integers(0, 10**6), n=st.sampled_from([3, 40]), step=st.sampled_from([0.0, 2.0**-22, 2.0**-14, 2.0**-9]))
@settings(max_examples=15, deadline=None)
def test_latents_that_rounding_confuses_are_told_apart(seed, n, step):
    """Half of the latents are one direction whose entries differ by `step`: far less than bfloat16 tells apart."""
    draw = torch.Generator().manual_seed(seed)
    m, d, k = 400, 24, 9
    x = torch.randn(n, d, generator=draw)
    weight = torch.randn(m, d, generator=draw)
    weight[::2] = 2 * x[:1] + step * torch.randint(-2, 3, (m // 2, d), generator=draw)
    same(x, weight, torch.zeros(m), k)


def test_exact_ties_go_to_the_lower_latent_and_silent_rows_are_filled():
    weight, x = torch.ones(600, 8), torch.ones(50, 8)
    x[3], x[4], x[5, 0] = -1.0, 0.0, 0.5
    index, value = exact_topk.fast(x, weight, torch.zeros(600), 5)
    assert torch.equal(index, torch.arange(5).expand(50, 5))
    assert torch.equal(value.amax(1), value.amin(1)) and value[[3, 4]].eq(0).all() and value[0, 0] == 8 and value[5, 0] == 7.5
    same(x, weight, torch.full((600,), 0.25), 5)


def test_what_is_not_finite_gives_nan_and_harms_no_other_row():
    x, weight = torch.randn(40, 16), torch.randn(100, 16)
    for row, wrong in ((1, torch.nan), (2, torch.inf), (3, -torch.inf)):
        x[row, 5] = wrong
    for n in (10, 40):
        value = exact_topk.fast(x[:n], weight, torch.zeros(100), 4)[1]
        assert value[1:4].isnan().all() and value[0].isfinite().all() and value[4:].isfinite().all()
        for wrong in (torch.nan, torch.inf):
            broken = weight.clone()
            broken[60, 2] = wrong
            assert exact_topk.fast(x[:n], broken, torch.zeros(100), 4)[1].isnan().all()


def test_a_rows_answer_depends_on_no_other_row(monkeypatch):
    x, weight, bias = torch.randn(200, 64), torch.randn(1000, 64), torch.randn(1000) / 10
    index, value = exact_topk.fast(x, weight, bias, 16)
    monkeypatch.setattr(exact_topk, "TILE", 80_000)  # 40 rows at a time
    monkeypatch.setattr(exact_topk, "SMALL", 80_000)
    for rows in (slice(0, 1), slice(7, 30), slice(3, 150)):
        one = exact_topk.fast(x[rows], weight, bias, 16)
        assert torch.equal(one[0].sort(1).values, index[rows].sort(1).values)
        assert torch.equal(one[1].sort(1).values, value[rows].sort(1).values)


def test_approximations_that_break_their_bound_are_not_believed(monkeypatch):
    """A product that sums less precisely than float32 would be noticed at the latents computed again."""
    if not _native.available():
        pytest.skip("the kernel's check")
    x, weight, plain, asked = torch.randn(50, 16), torch.randn(300, 16), exact_topk._product, []

    def coarse(rows, encoder, offset):
        asked.append(len(rows))
        out = plain(rows, encoder, offset)
        out[:, ::3] += 0.5  # too large: those are looked at first
        return out

    with monkeypatch.context() as patch:
        patch.setattr(exact_topk, "_product", coarse)
        found = exact_topk.fast(x, weight, torch.zeros(300), 6)
    assert sum(asked) == len(x)
    wanted = exact_topk.fast(x, weight, torch.zeros(300), 6)
    assert all(torch.equal(one.sort(1).values, other.sort(1).values) for one, other in zip(found, wanted, strict=True))


def test_encoding_uses_it_and_agrees_with_the_plain_product():
    x, weight, bias = torch.randn(100, 32), torch.randn(500, 32), torch.randn(500) / 10
    ours = encode_topk.fast(x, weight, bias, 8, x.mean(0)).dense()
    torch.testing.assert_close(ours, encode_topk.reference(x, weight, bias, 8, x.mean(0)).dense())
    index, value = exact_topk.fast(x - x.mean(0), weight, bias, 8)
    assert torch.equal(ours, torch.zeros_like(ours).scatter_(1, index, value))
