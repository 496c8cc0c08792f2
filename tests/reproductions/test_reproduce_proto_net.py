"""The reproduction of prototype networks on a small scale: its figures mean what they say."""

import pytest
import torch

from actscope.organisms.digits import pictures
from actscope.reproductions import proto_net as module
from actscope.reproductions.proto_net import proto_net


def test_agreement_purity_and_distance_are_of_the_network_itself():
    split = pictures(0)
    cases = module._trained(split, 0, 4, 4e-3, module.CLOSE)
    network = cases.network
    called = network(network.decoded()).argmax(1)
    assert module._agreement(cases) == pytest.approx(float((called == network.classes).float().mean()))
    nearest = network.distances(network.encoder(split.judge.pixels)).argmin(1)
    assert module._purity(cases) == pytest.approx(float((network.classes[nearest] == split.judge.labels).float().mean()))
    with torch.no_grad():
        network.prototypes.copy_(network.encoder(split.train.pixels[:15]))
    assert module._nearest(cases, split.train) == pytest.approx(0.0, abs=1e-6)


def test_closeness_makes_prototypes_that_are_what_they_show():
    result = proto_net(seeds=(0,), epochs=8)
    mean = {name: values[0] for name, values in result.figures.items()}
    assert (
        result.ours == mean["drawn prototypes of their class"] > result.baseline == mean["of their class, no closeness terms"]
    )
    assert result.ours > mean["of their class, classes dealt out anew"] + 0.2
    assert mean["accuracy of the baseline"] > 0.7
    near = mean["accuracy"] >= mean["accuracy of the baseline"] - module.WITHIN
    assert result.holds == (near and result.ours == 1)
