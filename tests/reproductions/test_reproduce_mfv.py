"""The reproduction of multifaceted visualisation on a small scale: its figures mean what they say."""

import pytest
import torch

from actscope.explainers.facets import Phase
from actscope.organisms.or_neuron import EITHER, or_neuron
from actscope.reproductions import mfv as module
from actscope.reproductions.mfv import correlations, mfv


@pytest.fixture(scope="module")
def trained():
    return or_neuron(0, pictures=1500, epochs=4)


def test_a_shape_is_known_wherever_it_may_stand_and_at_any_strength(trained):
    shapes = trained.world.shapes
    drawn = 0.2 + 0.5 * shapes.roll((1, -1), (1, 2))[:, None]
    found = correlations(drawn, shapes)
    torch.testing.assert_close(found.diagonal(), torch.ones(9), atol=1e-4, rtol=0)
    assert (found - torch.eye(9)).max() < 0.8
    assert (correlations(1 - drawn, shapes).diagonal() < 0.2).all()


def test_starts_are_what_they_are_called(trained):
    starts = module._facets(trained, 400, 160, 0)
    found = correlations(starts["mean"], trained.world.shapes[:2])
    assert found.amax(0).min() > 0.6  # each shape is the mean of some facet
    assert correlations(starts["shuffled"], trained.world.shapes[:2]).amax(0).min() < found.amax(0).min()
    assert starts["mean"].shape == starts["shuffled"].shape and starts["all"].shape == (1, 1, 16, 16)
    noise = module._noise(trained, 0, 0.3)
    assert noise.shape == (module.FACETS, 1, 16, 16) and abs(float(noise.mean()) - 0.3) < 0.01


def test_facets_show_both_shapes(trained, monkeypatch):
    monkeypatch.setattr(module, "or_neuron", lambda seed, *, attack: trained)
    monkeypatch.setattr(module, "PHASES", (Phase(40, 0.0, (0.004, 0.004), (0.0, 0.0)),))
    result = mfv(seeds=(0,), images=400, most=160)
    mean = {name: values[0] for name, values in result.figures.items()}
    assert result.ours == mean["facets"] > result.baseline == mean["random starts"]
    assert mean["facets"] <= mean["facets, the shape found better"]
    assert mean["activation from facets"] > mean["activation of mean images"]
    x, shape = trained.world.pictures(1000, seed=1)
    fired = trained.subject.run(trained.subject.prepare(x.pixels)).logits[shape < 2, EITHER].mean()
    assert mean["activation of pictures of the shapes"] == pytest.approx(float(fired), abs=1e-3)
    assert result.control == mean["shuffled facets"]
