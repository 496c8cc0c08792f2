"""The reproduction of Dunefsky et al. 2024 on a small scale: its figures mean what they say."""

import pytest
import torch

from actscope.reproductions._parts.booleans import SIZES, booleans
from actscope.reproductions.transcoder import LAYERS, transcoder


@pytest.fixture(scope="module")
def model():
    return booleans(seed=0, steps=400)


def test_conjunctions_hold_where_both_their_parts_do_and_are_made_of_different_pairs(model):
    holds = model.rows(500, seed=1).holds
    for level, parts, whole in zip(model.levels, holds, holds[1:], strict=False):
        assert torch.equal(whole, parts[:, level.parents[:, 0]] & parts[:, level.parents[:, 1]])
        assert len({tuple(pair) for pair in level.parents.tolist()}) == len(level.parents)
        assert (level.parents[:, 0] != level.parents[:, 1]).all()
        assert whole.any() and not whole.all(1).any()
    assert SIZES["d"] < SIZES["f"] and SIZES["d"] < SIZES["p"]  # more features than dimensions


def test_its_mlps_compute_them_and_not_those_of_other_rows(model):
    rows = model.rows(2000, seed=1)
    for level, x, whole in zip(model.levels, rows.x[1:], rows.holds[1:], strict=True):
        wanted = whole.float() @ level.writes
        spread = (wanted - wanted.mean(0)).square().sum()
        assert (x - wanted).square().sum() < 0.4 * spread < (x - wanted.roll(1, 0)).square().sum()


@pytest.mark.full
def test_a_transcoder_keeps_the_loss_and_its_edges_are_the_planted_pairs():
    small = {"tokens": 8_000, "rows": 24_000, "latents": 128, "k": 16, "judged": 8}
    result = transcoder(seeds=(0,), **small, boolean_rows=4000, boolean_seen=50_000, steps=600, tried=(0.02,))
    mean = {name: values[0] for name, values in result.figures.items()}
    assert result.ours == mean["lost by transcoder"] and result.baseline == mean["lost by autoencoder"]
    assert result.control == mean["lost by shuffled transcoder"] > result.ours
    assert result.ours == pytest.approx(sum(mean[f"lost by transcoder {layer}"] for layer in LAYERS) / len(LAYERS))
    assert 0.7 * mean["lost by mean"] < result.control  # other tokens' outputs teach it no more than their mean
    assert max(mean[f"active {name} {layer}"] for name in ("transcoder", "autoencoder") for layer in LAYERS) <= 16
    recovered = {name: mean[f"pairs recovered by {name}"] for name in ("transcoders", "neurons", "transcoders not trained")}
    assert recovered["transcoders"] > max(0.6, recovered["transcoders not trained"] + 0.2)
    assert recovered["transcoders"] > mean["pairs of other conjunctions recovered"] + 0.4
    assert result.full is None and result.seconds > 0 and set(result.inputs) == {"subject", "corpus"}
