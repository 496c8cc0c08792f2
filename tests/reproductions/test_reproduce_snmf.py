"""The reproduction of Shafran et al. 2025 on a small scale: its figures mean what they say."""

import pytest
import torch

from actscope.reproductions.snmf import GROUPS, NEURONS, SIZE, activations, groups_of, snmf
from actscope.scores._parts.assignment import matched_cosine


def test_groups_match_themselves_in_any_order_and_no_two_of_them_share_an_atom():
    groups = groups_of(0)
    order = torch.randperm(GROUPS, generator=torch.Generator().manual_seed(0))
    assert matched_cosine(3 * groups[order], groups) == pytest.approx(1.0)
    assert matched_cosine(groups[:1].expand(GROUPS, -1), groups) < 0.3


def test_activations_are_made_of_the_groups_that_act():
    groups = groups_of(1)
    assert groups.shape == (GROUPS, NEURONS) and ((groups != 0).sum(1) == SIZE).all()
    x, acts = activations(groups, 2000, seed=1)
    fitted = torch.linalg.lstsq(groups.T, x.T).solution.T
    assert fitted[acts].mean() > 0.9 and fitted[~acts].abs().mean() < 0.1
    _, together = activations(groups, 2000, seed=1, together=True)

    def with_partner(holds: torch.Tensor) -> float:
        first, second = holds[:, : GROUPS // 2], holds[:, GROUPS // 2 :]
        return float((first & second).sum() / first.sum())

    assert with_partner(together) > 0.5 > 0.3 > with_partner(acts)


def test_it_finds_the_groups_and_where_there_are_none_it_does_not():
    result = snmf(seeds=(0,), rows=2500, seen=20_000)
    mean = {name: values[0] for name, values in result.figures.items()}
    assert result.ours == mean["factorization"] and result.baseline == mean["autoencoder"]
    assert result.control == mean["random directions"] < 0.3
    assert result.ours > 0.85 and mean["shuffled factorization"] < 0.5
    assert result.full is None and result.seconds > 0
