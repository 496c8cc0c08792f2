"""The reproduction of Lee et al. 2025 on a small scale: its figures mean what they say."""

import pytest
import torch

from actscope.dictionaries.top_afa import TopAFA
from actscope.dictionaries.topk import TopK
from actscope.reproductions._parts.planted import PORT, directions, planted
from actscope.reproductions.top_afa import active, agreement, recovered, top_afa, unexplained

SMALL = {
    "width": 32, "true": 48, "latents": 64, "rows": 8000, "read": 8000, "held": 600, "weights": (1 / 32,), "sweep": (4, 20),
    "rates": (0.005, 0.015),
}  # fmt: skip


def test_the_measures_tell_a_dictionary_that_counts_from_one_that_does_not():
    """Orthogonal directions, for which the theory is exact: the rule finds the number of directions itself."""
    made = planted(500, torch.eye(24), least=2, most=20, seed=0)
    true, fixed = TopAFA(reads={PORT: 24}, n_latents=24), TopK(reads={PORT: 24}, n_latents=24, k=2)
    with torch.no_grad():
        for one in (true, fixed):
            one.encoder.copy_(torch.eye(24))
            one.decoder.copy_(torch.eye(24))
    assert agreement(true, made) == pytest.approx(1) and active(true, made) == float(made.present.sum()) / 500
    assert unexplained(true, made) < 1e-6 and recovered(true, made) == pytest.approx(1)
    assert agreement(fixed, made) == 0 and active(fixed, made) == 2 and unexplained(fixed, made) > 0.1
    other = TopK(reads={PORT: 24}, n_latents=24, k=2)
    assert recovered(other, made) < 0.8 and not torch.equal(directions(5, 24, seed=0), directions(5, 24, seed=1))


def test_a_small_run_compares_with_the_best_of_the_sweep():
    result = top_afa(seeds=(0, 1), **SMALL)
    assert all(len(values) == 2 for values in result.figures.values())
    mean = {name: sum(values) / 2 for name, values in result.figures.items()}
    assert result.ours == pytest.approx(mean["r of top-AFA"]) and result.baseline == pytest.approx(
        mean["r of the TopK that counts best"]
    )
    assert result.control == pytest.approx(mean["r of random atoms"]) and abs(result.control) < 0.3
    assert set(result.figures["setting of best TopK"]) <= {4.0, 20.0}
    assert set(result.figures["rate of best TopK"]) | set(result.figures["rate of top-AFA"]) <= {0.005, 0.015}
    assert mean["r of the true atoms"] > mean["r of random atoms"] + 0.2
    ratio = result.figures["unexplained by top-AFA"][0] / result.figures["unexplained by best TopK"][0]
    assert result.figures["unexplained, over best TopK"][0] == pytest.approx(ratio)
    assert all(
        any_k >= up_to_20
        for any_k, up_to_20 in zip(
            *(result.figures[f"unexplained, over best TopK{part}"] for part in ("", " up to k=20")), strict=True
        )
    )
    assert result.holds == (
        min(result.figures["r of top-AFA"]) >= 0.8 and max(result.figures["unexplained, over best TopK"]) <= 1.05
    )
