"""The reproduction of editable correspondences on a small scale: its figures mean what they say."""

import pytest
import torch

from actscope.reproductions import chm_corr_plus as module
from actscope.reproductions.chm_corr_plus import KINDS, PARTS, chm_corr_plus, world


def test_pictures_show_the_parts_of_their_kind_where_they_say_and_habitat_elsewhere():
    place = world(0)
    assert len(place.kinds.unique(dim=0)) == KINDS
    near = (place.kinds[:, None] != place.kinds).sum(2) + 9 * torch.eye(KINDS, dtype=torch.long)
    assert (near.amin(1) == 1).all()  # every kind differs from another in one part
    x, parts = place.pictures(600, seed=1)
    assert (parts.sum(1) == PARTS).all()
    cells = x.pixels.reshape(600, 7, 4, 7, 4).permute(0, 1, 3, 2, 4).flatten(1, 2)
    seen = cells[parts].unflatten(0, (600, PARTS))  # row by row
    meant = torch.stack([place.parts[part][place.kinds[x.labels, part]] for part in range(PARTS)], 1)
    assert (seen - meant).abs().mean() < 0.1
    habitats = place.habitats.flatten(1)
    strength = (cells[~parts].flatten(1) @ habitats.T) / habitats.square().sum(1)
    left = (cells[~parts].flatten(1)[:, None] - strength[..., None] * habitats).square().mean(2).amin(1)
    assert left.mean() < 0.03  # every other patch is some habitat, fainter or stronger


def test_a_users_limit_is_the_best_there_is():
    cue, right = torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([False, True, False, True])
    assert module._limit(cue, right) == (pytest.approx(0.2), 0.75)
    assert module._limit(cue, torch.zeros(4, dtype=torch.bool)) == (float("inf"), 1.0)


@pytest.mark.full
def test_figures_are_of_the_same_queries_and_the_oracle_gains():
    result = chm_corr_plus(seeds=(0,), seen=800, epochs=8)
    mean = {name: values[0] for name, values in result.figures.items()}
    assert result.ours == mean["accuracy with the parts"] > result.control == mean["accuracy with random patches"]
    assert result.baseline == mean["accuracy with the machine's choice"]
    for name in module.BETTER:
        gain = mean[f"decisions of {name} users, editing"] - mean[f"decisions of {name} users, static"]
        assert mean[f"gain of {name} users by editing"] == pytest.approx(gain)
    assert mean["decisions of sure users, editing"] > mean["decisions of random users, editing"]
