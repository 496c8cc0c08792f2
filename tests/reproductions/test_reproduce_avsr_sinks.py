"""The reproduction of decorrelated sinks on a small scale: its figures mean what they say."""

import pytest
import torch

import actscope as act
from actscope.organisms.planted_sinks import LENGTH, MARK, World
from actscope.reproductions.avsr_sinks import _cut, avsr_sinks, judge


class Told(torch.nn.Module):
    """A stream of 1 but for 500 at the first token and the mark, and a head that pays all its attention to these two."""

    def __init__(self):
        super().__init__()
        self.pattern, self.one, self.two = (torch.nn.Identity() for _ in range(3))

    def forward(self, ids):
        sink = (ids == MARK) | (torch.arange(ids.shape[1]) == 0)
        pattern = sink[:, None, :] * torch.ones(ids.shape[1], ids.shape[1]).tril()
        self.pattern((pattern / pattern.sum(-1, keepdim=True))[:, None])
        self.two(self.one(torch.where(sink[..., None], torch.tensor([500.0, 1, 1, 1]), torch.ones(4))))
        return torch.zeros(*ids.shape, 40)


def test_a_sink_is_counted_by_its_attention_and_by_its_activations():
    world = World(torch.eye(34), torch.eye(34))
    held = world.sequences(20, seed=0, marked=True)
    sites = {"layers.0.attn_pattern": "pattern", "layers.0.resid_post": "one", "layers.1.resid_post": "two"}
    found = judge(act.wrap(Told(), sites=sites, example=held.ids[:1]), world, held, "told")
    assert found["sinks, told"] == found["massive tokens, told"] == found["massive dimensions, told"] == 1
    assert found["largest, told"] == found["largest at the first token, told"] == 500
    assert found["attention to the mark, told"] == pytest.approx(0.5)
    assert 0.6 < found["attention to the first token, told"] < 0.8  # all of it until the mark comes, about the middle
    assert found["cosine of mark and first token, told"] == pytest.approx(1)
    assert held.ids.shape[1] == LENGTH


def test_a_cut_is_to_a_fifth_in_everything():
    found = {"sinks, before": 1.0, "massive tokens, before": 1.0, "largest, before": 500.0}
    assert _cut({**found, "sinks, x": 0.2, "massive tokens, x": 0.0, "largest, x": 100.0}, "x")
    assert not _cut({**found, "sinks, x": 0.2, "massive tokens, x": 0.0, "largest, x": 101.0}, "x")


@pytest.mark.full
def test_the_loss_takes_the_sink_away_and_tuning_alone_does_not():
    result = avsr_sinks(seeds=(0,), rows=1_280, tuned=2_560, judged=40, weight=10_000.0)
    mean = {name: values[0] for name, values in result.figures.items()}
    assert result.ours == mean["largest, decorrelated"] < mean["largest, before"] / 5
    assert result.baseline == mean["largest, tuned alone"] > mean["largest, before"] / 5
    assert mean["sinks, decorrelated"] < 0.2 < 0.8 < mean["sinks, tuned alone"]
    assert mean["loss, tuned alone"] < mean["loss, before"] and mean["loss, decorrelated"] < mean["loss, before"]
