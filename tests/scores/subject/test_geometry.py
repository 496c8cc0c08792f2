"""Spectra whose rank and decay are known; neither turns, shifts nor scales matter."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import Told, passages

from actscope.core.errors import BadInput
from actscope.scores._parts.spectrum import alpha_of, rankme_of
from actscope.scores.subject.geometry import geometry

LETTERS = ["abcdefghijklmnopqrstuvwxyz"[i:] + "abcdefghijklmnopqrstuvwxyz"[:i] for i in range(26)]


@given(st.integers(1, 30), st.integers(1, 30), st.floats(0.1, 100))
@settings(max_examples=40, deadline=None)
def test_rankme_of_k_equal_directions_is_k(k, d, scale):
    k = min(k, d)
    assert rankme_of(scale * (torch.arange(d) < k).double()) == pytest.approx(k, rel=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.7, 1.5])
@pytest.mark.parametrize("ranks", [None, (1, 64), (5, 20)])
def test_alpha_of_a_power_law_is_its_exponent(alpha, ranks):
    found, r2 = alpha_of(3.0 * torch.arange(1, 65).double() ** -alpha, ranks)
    assert found == pytest.approx(alpha, abs=1e-9) and r2 == pytest.approx(1)


def table(x):
    return Told({"layers.0.resid_post": lambda ids: x[ids]})


def test_streamed_it_is_the_rank_of_all_rows_at_once_and_turning_and_shifting_them_changes_nothing():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(27, 6, generator=draw) * torch.tensor([8.0, 4, 2, 1, 0.5, 0.1])
    told = table(x)
    found = geometry(told, passages(told, LETTERS))
    rows = x[1:].double()
    sigma = torch.linalg.svdvals(rows - rows.mean(0))
    assert found[0].name == "rankme" and found[0].value == pytest.approx(
        float(torch.special.entr(sigma / sigma.sum()).sum().exp()), rel=1e-5
    )
    low, high = found[0].interval
    assert low <= found[0].value <= high and found[0].n == 26 * 26
    turned = table(3 * x @ torch.linalg.qr(torch.randn(6, 6, generator=draw))[0] + 5)
    same = geometry(turned, passages(turned, LETTERS))
    assert [one.value for one in same] == pytest.approx([one.value for one in found], rel=1e-3)


def test_one_direction_has_rank_one_and_its_control_that_of_its_coordinates():
    told = table(torch.arange(27)[:, None].float().expand(27, 5))
    rank = geometry(told, passages(told, LETTERS))[0]
    assert rank.value == pytest.approx(1, abs=1e-2) and rank.control == pytest.approx(5)


def test_last_rows_are_one_a_sequence():
    told = table(torch.randn(27, 3, generator=torch.Generator().manual_seed(1)))
    found = geometry(told, passages(told, LETTERS), rows="last")[0]
    last = told.acts[next(iter(told.acts))](torch.tensor([[1 + ord(text[-1]) - ord("a") for text in LETTERS]]))[0].double()
    sigma = torch.linalg.svdvals(last - last.mean(0))
    assert found.n == 26 and found.value == pytest.approx(float(torch.special.entr(sigma / sigma.sum()).sum().exp()), rel=1e-5)
    with pytest.raises(BadInput, match="at least 2"):
        geometry(told, passages(told, ["a"]))


def test_sites_are_those_asked_for_and_the_last_one_stands_first():
    x = torch.randn(27, 3, generator=torch.Generator().manual_seed(2))
    told = Told({"layers.0.resid_post": lambda ids: x[ids], "final_norm": lambda ids: x[ids][..., :2]})
    read = passages(told, LETTERS)
    names = [one.name for one in geometry(told, read, sites=["layers.0.resid_post", "final_norm"]) if "rankme" in one.name]
    assert names == ["rankme", "rankme:layers.0.resid_post", "rankme:final_norm"]
    only = geometry(told, read, sites=["final_norm"])[0]
    assert only.unit == "of 2 dimensions" and geometry(told, read)[0].unit == "of 3 dimensions"
