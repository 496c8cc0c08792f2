"""The reproduction of the three phases on a small scale: its figures mean what they say."""

import math

import pytest
import torch

from actscope.reproductions._parts.zipf import LENGTH, checkpoints, language
from actscope.reproductions.repr_geometry import phases, repr_geometry


def test_the_least_change_of_a_curve_is_found_where_it_is_largest():
    found = phases([10.0, 8.0, 5.0, 7.0, 9.0, 8.0, 8.5])
    assert found[:4] == (10.0, 5.0, 9.0, 8.5) and found.least == pytest.approx(math.log(9 / 8.5))
    assert phases([10.0, 8.0, 5.0, 7.0, 9.0]).least == 0  # it never falls again
    assert phases([10.0, 8.0, 5.0, 4.0]).least < 0  # nor does it rise
    assert phases([4.0, 5.0, 9.0, 7.0]).least == 0  # nor fall in the beginning


@pytest.mark.parametrize("skew", [0.0, 1.0])
def test_tokens_are_as_frequent_and_follow_each_other_as_they_are_said_to(skew):
    spoken = language(24, skew=skew, topics=2, sharpness=1.0, topical=0.5, seed=0)
    ids = spoken.documents(20_000, seed=1)
    assert ids.shape == (20_000, LENGTH) and torch.equal(ids, spoken.documents(20_000, seed=1))
    first = torch.bincount(ids[:, 0], minlength=24) / len(ids)
    told = spoken.begins.diff(dim=1, prepend=torch.zeros(2, 1)).mean(0)
    assert torch.allclose(first, told, atol=0.012)
    assert (float(first.max() / first.min()) > 12) == (skew == 1.0)
    assert spoken.documents(5, seed=3).shape == (5, LENGTH)


def test_checkpoints_begin_before_training_and_end_with_it():
    spoken = language(24, skew=1.0, topics=2, sharpness=1.0, topical=0.5, seed=0)
    kept = checkpoints(spoken, width=8, layers=1, heads=2, steps=40, batch=8, lr=0.01, seed=0)
    assert list(kept)[:4] == [0, 1, 2, 3] and list(kept)[-1] == 40
    ids = spoken.documents(300, seed=5)

    def loss(subject) -> float:
        logits = subject.run(ids).logits
        return float(torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()))

    assert loss(kept[0]) == pytest.approx(math.log(24), abs=0.1) and loss(kept[40]) < loss(kept[0]) - 0.2
    again = checkpoints(spoken, width=8, layers=1, heads=2, steps=40, batch=8, lr=0.01, seed=0)
    assert again[40].fingerprint == kept[40].fingerprint


@pytest.mark.full
def test_its_figures_are_those_of_the_claim():
    result = repr_geometry(seeds=(0,), steps=200, documents=100)
    mean = {name: values[0] for name, values in result.figures.items()}
    assert result.ours == mean["least, Zipf"] and result.baseline == mean["least, balanced"]
    assert result.control == mean["least, wide"] and mean["low, Zipf"] < mean["start, Zipf"]
