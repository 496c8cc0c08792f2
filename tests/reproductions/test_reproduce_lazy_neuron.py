"""The reproduction of lazy neurons on a small scale: its figures mean what they say."""

import pytest
import torch

import actscope as act
from actscope.reproductions import lazy_neuron as module
from actscope.reproductions.lazy_neuron import NOISE, lazy_neuron, nonzero, relabelled


def test_labels_are_drawn_anew_by_the_share_that_is_said():
    labels = torch.arange(5000) % 10
    assert torch.equal(relabelled(labels, 0.0, 1), labels)
    changed = float((relabelled(labels, NOISE, 1) != labels).float().mean())
    assert changed == pytest.approx(0.9 * NOISE, abs=0.02)  # a tenth is drawn as it was
    assert float((relabelled(labels, 1.0, 1) == labels).float().mean()) == pytest.approx(0.1, abs=0.02)


def test_nonzero_is_the_share_of_entries_over_layers_tokens_and_pictures():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.ReLU(), torch.nn.Linear(4, 2), torch.nn.ReLU())
    with torch.no_grad():
        net[2].weight.fill_(1.0)
        net[2].bias.copy_(torch.tensor([0.0, -100.0]))
    subject = act.wrap(net, sites={"layers.0.mlp_post": "1", "layers.1.mlp_post": "3"}, example=torch.rand(1, 1, 2, 2))
    x = torch.tensor([[1.0, -1, 1, 1], [1, -1, -1, 1]]).view(2, 1, 2, 2)
    assert nonzero(subject, x) == pytest.approx((5 / 8 + 1 / 2) / 2)


def test_the_share_must_fall_in_every_seed():
    figures = {"nonzero at 1, true labels": (0.5, 0.5), "nonzero at 2, true labels": (0.4, 0.4)}
    assert module._falls(figures, (1, 2), "true labels")
    figures["nonzero at 2, true labels"] = (0.4, 0.5)
    assert not module._falls(figures, (1, 2), "true labels")


@pytest.mark.full
def test_figures_of_a_run_that_is_far_too_short(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "KEPT", (4,))
    monkeypatch.setattr(module, "RATES", (3e-3,))
    result = lazy_neuron(seeds=(0,), widths=(8, 32), epochs=8)
    mean = {name: values[0] for name, values in result.figures.items()}
    assert result.ours == mean["accuracy, top k, noisy labels"] and result.baseline == mean["accuracy, dense, noisy labels"]
    assert result.control == mean["accuracy, narrow, noisy labels"] and mean["k"] == 4
    assert mean["accuracy, dense, true labels"] > 0.3 and 0.3 < mean["nonzero at 32, untrained"] < 0.7
    assert 0 <= mean["ECE, top k, true labels"] <= 1
