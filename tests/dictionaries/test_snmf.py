"""What Shafran et al. 2025 claim of semi-nonnegative factorization, on neurons that act in planted groups."""

import os
import signal

import pytest
import torch
from tests.dictionaries._planted import fvu
from tests.training._toys import OUT, PORT, Rows
from torch.nn import functional

from actscope.core.errors import BadInput, Interrupted, NotFinite
from actscope.core.progress import graceful
from actscope.dictionaries._parts import factors, nonnegative
from actscope.dictionaries.kmeans import KMeans
from actscope.dictionaries.pca import PCA
from actscope.dictionaries.random import Random
from actscope.dictionaries.snmf import SNMF
from actscope.training.fit import fit
from actscope.training.plan import Plan

D, GROUPS, SHARE = 96, 18, 0.08


def grouped(seed: int, n: int = 4000) -> tuple[torch.Tensor, torch.Tensor]:
    """(activations, features): groups of 8 of 96 neurons, most of them excited and some held down, about 3 a token."""
    draw = torch.Generator().manual_seed(500 + seed)
    where = torch.rand(GROUPS, D, generator=draw).topk(8).indices
    weight = (torch.rand(GROUPS, 8, generator=draw) + 0.3) * torch.where(torch.rand(GROUPS, 8, generator=draw) < 0.2, -0.5, 1)
    features = functional.normalize(torch.zeros(GROUPS, D).scatter_(1, where, weight), dim=1)
    often = torch.arange(1, GROUPS + 1).float() ** -0.5
    strength = (torch.rand(n, GROUPS, generator=draw) < 3 * often / often.sum()) * (torch.rand(n, GROUPS, generator=draw) + 0.5)
    return strength @ features + 0.05 * torch.randn(n, D, generator=draw), features


def solved(x: torch.Tensor, batch: int = 1000, **settings) -> SNMF:
    settings = {"n_latents": GROUPS, "share": SHARE, **settings}
    return fit(SNMF(reads={PORT: x.shape[1]}, **settings), Rows({PORT: x}), Plan(batch=batch))


def matched(atoms: torch.Tensor, features: torch.Tensor) -> float:
    """The mean cosine of features with atoms, one to one, the best pair first: at most what the best assignment gives."""
    cosine = functional.normalize(features, dim=1) @ functional.normalize(atoms, dim=1).T
    total = 0.0
    for _ in range(len(features)):
        row, column = divmod(int(cosine.argmax()), cosine.shape[1])
        total += float(cosine[row, column])
        cosine[row], cosine[:, column] = -2, -2
    return total / len(features)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_finds_planted_groups_of_neurons_where_controls_do_not(seed: int):
    x, features = grouped(seed)
    assert matched(solved(x, seed=seed).atoms[PORT], features) >= 0.9
    pca = fit(PCA(reads={PORT: D}, n_latents=GROUPS), Rows({PORT: x}), Plan())
    signs = pca.directions @ features.T  # a component has no sign of its own: give it the better one
    better = pca.directions * signs.gather(1, signs.abs().argmax(1, keepdim=True)).sign()
    assert matched(better, features) < 0.75
    assert matched(Random(reads={PORT: D}, n_latents=GROUPS).atoms[PORT], features) < 0.4


def test_winner_take_all_is_what_tells_the_groups_apart():
    """From a random start, with and without sparsity in the features; the rows are explained equally well."""
    x, features = grouped(0)
    sparse, full = solved(x, begin="random"), solved(x, begin="random", share=1.0)
    assert matched(sparse.atoms[PORT], features) > 0.9 > 0.75 > matched(full.atoms[PORT], features)
    for snmf in (sparse, full):
        assert fvu(snmf.decode(snmf.encode(x))[PORT], x) < 0.1


def test_features_use_few_neurons_and_codes_are_never_negative():
    x, _ = grouped(0)
    snmf = solved(x)
    assert ((snmf.features != 0).sum(1) <= 8).all()
    torch.testing.assert_close(snmf.features.norm(dim=1), torch.ones(GROUPS))
    codes = snmf.encode(x)
    assert (codes.value > 0).all()
    assert len(codes.index) < 0.8 * GROUPS * len(x)  # many are exactly 0


def test_unseen_tokens_get_codes_as_good_as_those_of_the_fit():
    x, _ = grouped(0)
    snmf = solved(x[:2000])
    seen, unseen = (fvu(snmf.decode(snmf.encode(part))[PORT], part) for part in (x[:2000], x[2000:]))
    assert unseen == pytest.approx(seen, rel=0.1)
    assert fvu(x[2000:].roll(1, 0), x[2000:]) > 1  # the control: codes of another token say nothing


def test_codes_are_the_nonnegative_least_squares_solution():
    """The conditions of Karush, Kuhn and Tucker: no slope where a code is active, none downwards where it is 0."""
    draw = torch.Generator().manual_seed(3)
    atoms = functional.normalize(torch.randn(20, 30, generator=draw, dtype=torch.float64), dim=1)
    x = torch.randn(200, 30, generator=draw, dtype=torch.float64)
    y = nonnegative.codes(x, atoms, steps=2000, tol=1e-10)
    slope = (y @ atoms - x) @ atoms.T
    assert (y >= 0).all() and (y == 0).any() and (y > 0).any()
    assert slope[y > 0].abs().max() < 1e-7
    assert slope[y == 0].min() > -1e-7


def test_the_gradient_of_codes_is_that_of_the_solution():
    draw = torch.Generator().manual_seed(3)
    atoms = functional.normalize(torch.randn(8, 10, generator=draw, dtype=torch.float64), dim=1)
    x = torch.randn(6, 10, generator=draw, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: nonnegative.codes(x, atoms, steps=5000, tol=1e-13), x)
    twice = torch.cat([atoms, atoms]).clone()  # atoms that stand twice have no unique codes; what they rebuild is unique
    (nonnegative.codes(x, twice, steps=500) @ twice).sum().backward()
    assert torch.isfinite(x.grad).all() and x.grad.any()


def test_it_does_not_depend_on_how_the_rows_are_batched():
    x, _ = grouped(1)
    one, other = solved(x, batch=333, most=8), solved(x, batch=4000, most=8)
    torch.testing.assert_close(one.features, other.features, atol=1e-3, rtol=0)


def families(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """(activations, family of each planted feature): 5 cores of 6 neurons, each shared by 4 features with 3 neurons of
    their own; a token has one or two features."""
    draw = torch.Generator().manual_seed(seed)
    place = torch.randperm(D, generator=draw)
    features = torch.zeros(20, D)
    for feature in range(20):
        features[feature, place[6 * (feature // 4) : 6 * (feature // 4) + 6]] = 1.0
        features[feature, place[30 + 3 * feature : 33 + 3 * feature]] = 1.4
    features = functional.normalize(features, dim=1)
    holds = torch.rand(4000, 20, generator=draw) < 0.07
    return (holds * (torch.rand(4000, 20, generator=draw) + 0.5)) @ features, features


def test_its_hierarchy_joins_features_that_share_neurons():
    x, features = families()
    snmf = solved(x, n_latents=20, share=9 / D)
    assert matched(snmf.features, features) > 0.9
    family = (functional.normalize(features, dim=1) @ snmf.features.T).argmax(0) // 4
    (level,) = snmf.hierarchy([5])
    assert level.atoms.shape == (5, D) and level.weight.shape == (20, 5) and (level.weight >= 0).all()

    def agreement(parent: torch.Tensor) -> float:
        """The share of features whose parent's most frequent family is theirs."""
        return sum(family[parent == c].bincount().max().item() for c in parent.unique()) / 20

    shuffled = level.parent[torch.randperm(20, generator=torch.Generator().manual_seed(1))]
    assert agreement(level.parent) >= 0.9 > 0.7 > agreement(shuffled)
    core = functional.normalize(features.view(5, 4, D).sum(1), dim=1)
    assert matched(level.atoms, core) > 0.9
    coarse = snmf.encode(x).dense() @ level.weight
    assert fvu(coarse @ level.atoms, x) < 0.6 < fvu(coarse @ level.atoms.roll(1, 0), x)


def test_a_hierarchy_has_as_many_levels_as_asked_each_coarser():
    x, _ = grouped(0, 1500)
    levels = solved(x, most=5).hierarchy([9, 4, 2])
    assert [level.atoms.shape[0] for level in levels] == [9, 4, 2]
    assert [len(level.parent) for level in levels] == [GROUPS, 9, 4]
    assert all(int(level.parent.max()) < len(level.atoms) for level in levels)


def test_what_cannot_be_is_refused():
    x, _ = grouped(0, 300)
    with pytest.raises(BadInput, match="share=0"):
        SNMF(reads={PORT: 4}, n_latents=2, share=0.0)
    with pytest.raises(BadInput, match="expected one of rows, random"):
        SNMF(reads={PORT: 4}, n_latents=2, begin="svd")
    with pytest.raises(BadInput, match="leave writes out"):
        SNMF(reads={PORT: 4}, writes={OUT: 4}, n_latents=2)
    with pytest.raises(BadInput, match="expected falling numbers"):
        SNMF(reads={PORT: 4}, n_latents=3).hierarchy([2, 2])
    with pytest.raises(BadInput, match="nothing to factorize"):
        solved(torch.zeros(50, D))
    x[3, 2] = torch.nan
    with pytest.raises(NotFinite, match="NaN or infinity"):
        solved(x)


@pytest.mark.parametrize("kind", [SNMF, KMeans])
def test_asked_to_stop_it_stops_between_batches(kind):
    rows = Rows({PORT: grouped(0)[0]})
    with graceful(), pytest.raises(Interrupted, match="begins it again"):
        os.kill(os.getpid(), signal.SIGINT)
        fit(kind(reads={PORT: D}, n_latents=GROUPS), rows, Plan(batch=500))


def test_on_a_sample_of_many_rows_it_finds_what_it_finds_on_all(monkeypatch):
    x, features = grouped(3, n=16_000)
    found = matched(solved(x).atoms[PORT], features)
    monkeypatch.setattr(factors, "SEARCHED", 1_000)  # rows an atom: all of them
    assert found > 0.99 and found > matched(solved(x).atoms[PORT], features) - 1e-3
