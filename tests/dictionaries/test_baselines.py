"""PCA, random directions and the site's own coordinates are exactly what they say."""

import pytest
import torch
from tests.dictionaries._planted import fvu
from tests.training._toys import PORT, Rows

from actscope.core.errors import BadInput, NotFinite
from actscope.dictionaries.identity import Identity
from actscope.dictionaries.pca import PCA
from actscope.dictionaries.random import Random
from actscope.training.fit import fit
from actscope.training.plan import Plan

D = 10


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    draw = torch.Generator().manual_seed(4)
    return torch.randn(999, D, generator=draw) @ torch.randn(D, D, generator=draw) + 50


def test_pca_is_the_singular_vectors_of_the_centred_rows(x):
    pca = fit(PCA(reads={PORT: D}, n_latents=4), Rows({PORT: x}), Plan(batch=64))
    centred = x.double() - x.double().mean(0)
    _, singular, vectors = torch.linalg.svd(centred, full_matrices=False)
    likeness = (pca.directions.double() * vectors[:4]).sum(1).abs()
    torch.testing.assert_close(likeness, torch.ones(4, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(pca.mean, x.mean(0), atol=1e-4, rtol=0)
    explained = singular[:4].square().sum() / singular.square().sum()
    assert fvu(pca.decode(pca.encode(x))[PORT], x) == pytest.approx(1 - float(explained), abs=1e-5)


def test_all_components_give_the_rows_back(x):
    pca = fit(PCA(reads={PORT: D}), Rows({PORT: x}), Plan(batch=100))
    assert pca.n_latents == D
    torch.testing.assert_close(pca.decode(pca.encode(x))[PORT], x, atol=1e-3, rtol=1e-5)


def test_pca_does_not_depend_on_how_the_rows_are_batched(x):
    a, b = (fit(PCA(reads={PORT: D}), Rows({PORT: x}), Plan(batch=size)) for size in (7, 999))
    torch.testing.assert_close(a.directions, b.directions, atol=1e-6, rtol=1e-5)


def test_the_plan_may_ask_for_fewer_rows_than_there_are(x):
    few = fit(PCA(reads={PORT: D}), Rows({PORT: x}), Plan(rows=200, batch=100, seed=3))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(3))[:200]
    torch.testing.assert_close(few.mean, x[order].mean(0), atol=1e-4, rtol=0)


def test_pca_refuses_rows_that_are_not_finite_and_too_many_components(x):
    bad = x.clone()
    bad[5, 2] = torch.nan
    with pytest.raises(NotFinite, match="NaN or infinity"):
        fit(PCA(reads={PORT: D}), Rows({PORT: bad}), Plan())
    with pytest.raises(BadInput, match="at most 10"):
        PCA(reads={PORT: D}, n_latents=11)


def test_random_directions_are_unit_come_from_the_seed_and_see_only_the_mean(x):
    one, other = Random(reads={PORT: D}, n_latents=300, seed=1), Random(reads={PORT: D}, n_latents=300, seed=2)
    torch.testing.assert_close(one.directions.norm(dim=1), torch.ones(300))
    assert not torch.equal(one.directions, other.directions)
    before = one.directions.clone()
    fit(one, Rows({PORT: x}), Plan(batch=64))
    assert torch.equal(before, one.directions)
    torch.testing.assert_close(one.mean, x.mean(0), atol=1e-4, rtol=0)
    torch.testing.assert_close(one.encode(x).dense(), (x - one.mean) @ one.directions.T)
    assert fvu(one.decode(one.encode(x))[PORT], x) < 0.2  # 300 directions in 10 dimensions are nearly a tight frame


def test_identity_is_the_site_itself(x):
    neurons = fit(Identity(reads={PORT: D}), Rows({PORT: x}), Plan())
    assert neurons.n_latents == D
    torch.testing.assert_close(neurons.encode(x).dense(), x)
    torch.testing.assert_close(neurons.decode(neurons.encode(x))[PORT], x)
    with pytest.raises(BadInput, match="leave it out"):
        Identity(reads={PORT: D}, n_latents=11)
