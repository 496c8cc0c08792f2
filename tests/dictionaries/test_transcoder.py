"""What Dunefsky et al. 2024 and Paulo et al. 2025 claim of transcoders, on a random MLP over planted causes."""

import pytest
import torch
from tests.dictionaries._planted import fvu, planted
from tests.training._toys import OUT, PORT, Rows

from actscope.core.errors import BadInput, UnknownMethod
from actscope.dictionaries.transcoder import Transcoder
from actscope.training.fit import fit
from actscope.training.plan import Plan

D, WRITTEN, K = 24, 20, 6


@pytest.fixture(scope="module")
def mlp() -> tuple[torch.Tensor, torch.Tensor]:
    """What a random MLP reads and gives: 20,000 rows."""
    x, _ = planted(20_000, D, 40, 3)
    draw = torch.Generator().manual_seed(77)
    first, second = torch.randn(D, 48, generator=draw) / 12, torch.randn(48, WRITTEN, generator=draw) / 7
    return x, torch.relu((x - x.mean(0)) @ first - 0.5) @ second + 4


def fitted(mlp, rows: int = 100_000, **settings) -> Transcoder:
    x, y = mlp
    made = Transcoder(reads={PORT: D}, writes={OUT: WRITTEN}, n_latents=160, k=K, **settings)
    return fit(made, Rows({PORT: x, OUT: y}), Plan(rows=rows, batch=400))


@pytest.fixture(scope="module")
def plain(mlp) -> Transcoder:
    return fitted(mlp)


@torch.no_grad()
def left(transcoder: Transcoder, mlp) -> float:
    x, y = mlp
    codes = transcoder.encode(x)
    assert int(codes.indptr.diff().max()) <= K
    return fvu(transcoder.decode(codes, x)[OUT], y)


def linear_of_rank(k: int, mlp) -> float:
    """The best linear map of rank k (reduced-rank regression): k numbers a row, like k active latents."""
    x, y = (part.double() - part.double().mean(0) for part in mlp)
    fitted = x @ torch.linalg.lstsq(x, y).solution
    _, _, v = torch.linalg.svd(fitted, full_matrices=False)
    return fvu(fitted @ v[:k].T @ v[:k], y)


def test_it_predicts_an_mlp_better_than_the_mean_and_a_linear_map_of_as_many_numbers(plain, mlp):
    ours, linear = left(plain, mlp), linear_of_rank(K, mlp)
    assert ours < 0.25 < linear < 1
    assert ours < 0.6 * linear


def test_a_skip_path_leaves_less_unexplained(plain, mlp):
    assert left(fitted(mlp, skip=True), mlp) < 0.9 * left(plain, mlp)


def test_before_training_the_skip_path_is_silent_and_decoding_needs_the_input(mlp):
    made = Transcoder(reads={PORT: D}, writes={OUT: WRITTEN}, n_latents=50, k=K, skip=True)
    assert not made.skip.any()
    with pytest.raises(BadInput, match="skip path"):
        made.decode(made.encode(mlp[0][:4]))


def test_codes_are_in_units_of_the_site_written(mlp):
    x, y = mlp
    plain, larger = fitted(mlp, 20_000), fitted((3 * x, 5 * y), 20_000)
    torch.testing.assert_close(plain.atoms[OUT].norm(dim=1), torch.ones(160))
    torch.testing.assert_close(larger.encode(3 * x[:300]).dense(), 5 * plain.encode(x[:300]).dense(), atol=2e-2, rtol=1e-2)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"writes": None}, BadInput, "needs writes="),
        ({"activation": "tokp"}, UnknownMethod, "no activation 'tokp'"),
        ({"activation": "../x"}, UnknownMethod, "no activation"),
        ({"k": 51}, BadInput, "k=51"),
    ],
)
def test_what_cannot_be_is_refused(given, error, message):
    with pytest.raises(error, match=message):
        Transcoder(**{"reads": {PORT: D}, "writes": {OUT: WRITTEN}, "n_latents": 50, "k": 3, **given})
