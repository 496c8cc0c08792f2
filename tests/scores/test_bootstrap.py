"""The intervals that every claim stands on."""

import pytest
import torch

from actscope.core.errors import BadInput
from actscope.scores._parts import bootstrap


def clustered(effect: float, seed: int, documents: int = 40, each: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    """Contexts whose noise is shared inside a document, around `effect`."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(documents, 1, generator=generator)
    own = torch.randn(documents, each, generator=generator)
    return (effect + shared + 0.3 * own).flatten(), torch.arange(documents).repeat_interleave(each)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    hits = 0
    for seed in range(100):
        values, documents = clustered(1.0, seed)
        low, high = bootstrap.interval(bootstrap.paired(values, torch.zeros_like(values), documents, draws=400, seed=seed))
        hits += low <= 1.0 <= high
    assert 85 <= hits <= 100
    values, _ = clustered(1.0, 0)
    naive = bootstrap.interval(bootstrap.paired(values, torch.zeros(400), torch.arange(400), draws=400))
    honest = bootstrap.interval(bootstrap.paired(values, torch.zeros(400), clustered(1.0, 0)[1], draws=400))
    assert honest[1] - honest[0] > 2 * (naive[1] - naive[0])  # resampling tokens instead would claim too much


def test_pairing_removes_what_both_sides_share():
    values, documents = clustered(0.0, 3)
    low, high = bootstrap.interval(bootstrap.paired(values + 0.1, values, documents))
    assert low == pytest.approx(0.1, abs=1e-5) and high == pytest.approx(0.1, abs=1e-5)


def test_the_same_seed_gives_the_same_numbers_and_documents_weigh_by_their_contexts():
    values = torch.tensor([1.0, 1.0, 1.0, 5.0])
    documents = torch.tensor([7, 7, 7, 9])
    sums, counts = bootstrap.by_document(values[:, None], documents)
    assert sums[:, 0].tolist() == [3.0, 5.0] and counts.tolist() == [3.0, 1.0]
    first, again = (bootstrap.paired(values, torch.zeros(4), documents, draws=50, seed=4) for _ in range(2))
    assert torch.equal(first, again)
    assert {round(x, 6) for x in first.tolist()} <= {1.0, 2.0, 5.0}


def test_p_values_are_uniform_under_the_null_and_small_under_an_effect():
    null = torch.tensor([p for p in map(_p_of, range(100))])
    assert (null < 0.05).float().mean() <= 0.13
    values, documents = clustered(2.0, 1)
    assert bootstrap.p_value(bootstrap.paired(values, torch.zeros_like(values), documents)) <= 2 / 10_000


def _p_of(seed: int) -> float:
    values, documents = clustered(0.0, 1000 + seed)
    return bootstrap.p_value(bootstrap.paired(values, torch.zeros_like(values), documents, draws=400, seed=seed))


def test_holm_is_the_step_down_of_the_paper():
    p = torch.tensor([0.01, 0.04, 0.03, 0.005], dtype=torch.float64)
    assert bootstrap.holm(p).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    levels = bootstrap.holm_levels(p)
    assert levels.tolist() == pytest.approx([1 - 0.05 / 3, 1 - 0.05 / 2, 1 - 0.05 / 2, 1 - 0.05 / 4])


def test_a_corrected_interval_excludes_zero_exactly_when_the_corrected_p_value_is_small():
    draws = torch.stack([torch.randn(4000, generator=torch.Generator().manual_seed(i)) + 0.5 * i for i in range(12)])
    p = torch.tensor([bootstrap.p_value(row) for row in draws], dtype=torch.float64)
    corrected, levels = bootstrap.holm(p), bootstrap.holm_levels(p)
    for row, believed, level in zip(draws, corrected <= 0.05, levels.tolist(), strict=True):
        low, high = bootstrap.interval(row, level)
        assert bool(believed) == (low > 0 or high < 0)


def test_too_little_to_resample_is_refused():
    with pytest.raises(BadInput, match="at least 2"):
        bootstrap.paired(torch.ones(3), torch.zeros(3), torch.zeros(3, dtype=torch.long))
    with pytest.raises(BadInput, match="resamples"):
        bootstrap.interval(torch.randn(50), 0.9999)
