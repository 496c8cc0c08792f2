"""Prototype networks: distances and losses are what the paper says, and explanations tell what the network does."""

import pytest
import torch
from torch import nn

import actscope as act
from actscope.core.errors import BadInput
from actscope.explainers.prototypes import Labelled, PrototypeNetwork, prototypes


def flat(count: int = 2, weights=(20.0, 1.0, 1.0, 1.0)) -> PrototypeNetwork:
    """Codes are the pixels themselves, and decode to themselves."""
    return PrototypeNetwork(nn.Flatten(), nn.Unflatten(1, (1, 1, 2)), count, 2, 2, weights=weights)


def test_distances_losses_and_classes_by_hand():
    network = flat(weights=(20.0, 3.0, 5.0, 7.0))
    with torch.no_grad():
        network.prototypes.copy_(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
        network.last.weight.copy_(torch.tensor([[-1.0, 0.0], [0.0, -1.0]]))
    x = torch.tensor([[0.0, 0.5], [1.0, 0.0], [1.0, 1.0]])[:, None, None]
    torch.testing.assert_close(network.distances(x.flatten(1)), torch.tensor([[0.25, 1.25], [1.0, 1.0], [2.0, 0.0]]))
    torch.testing.assert_close(network(x), -network.distances(x.flatten(1)))
    told = network.objective(Labelled(x, torch.tensor([0, 0, 1])), progress=0.0)
    terms = {name: float(value.detach()) for name, value in told.items()}
    assert terms["near_inputs"] == pytest.approx((0.25 + 0.0) / 2)  # R1: of each prototype, its nearest input
    assert terms["near_prototypes"] == pytest.approx((0.25 + 1.0 + 0.0) / 3)  # R2: of each input, its nearest prototype
    assert terms["reconstruction"] == 0.0
    entropy = float(torch.nn.functional.cross_entropy(network(x).detach(), torch.tensor([0, 0, 1])))
    assert terms["cross_entropy"] == pytest.approx(entropy)
    whole = 20 * entropy + 5 * 0.125 + 7 * 1.25 / 3
    assert terms["loss"] == pytest.approx(whole)
    assert network.classes.tolist() == [0, 1]


def test_adding_to_all_weights_of_a_prototype_changes_no_probability_and_no_class():
    network = flat(4)
    x = torch.rand(6, 1, 1, 2, generator=torch.Generator().manual_seed(0))
    before, classes = network(x).softmax(1), network.classes
    with torch.no_grad():
        network.last.weight += torch.randn(4, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(network(x).softmax(1), before)
    assert torch.equal(network.classes, classes)


def test_two_heaps_get_a_prototype_each_and_explanations_say_so(tmp_path):
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 2
    images = (labels[:, None].float() * 0.6 + 0.2 + 0.05 * torch.randn(200, 2, generator=draw))[:, None, None]
    kept = {"encoder": nn.Flatten(), "decoder": nn.Unflatten(1, (1, 1, 2)), "count": 2, "lr": 0.02, "seed": 1}
    found = prototypes(images, labels, **kept, near_inputs=5.0, near_prototypes=50.0, epochs=100)
    assert {one.evidence["class"] for one in found.explanations} == {0, 1}
    for one in found.explanations:
        assert one.evidence["class"] == one.evidence["decoded class"] and one.evidence["nearest prototype of"] == 100
        heap = torch.tensor([0.2, 0.8])[one.evidence["class"]]
        torch.testing.assert_close(torch.tensor(one.evidence["image"]), heap.expand(1, 1, 2), atol=0.05, rtol=0)
        assert all(labels[number] == one.evidence["class"] for number in one.evidence["nearest"])
        score = one.score("case_purity")
        assert (score.value, score.control, score.n) == (1.0, 0.5, 100) and score.interval[0] < 1 <= score.interval[1] + 1e-6
    assert act.save(found.explanations, tmp_path / "cases") and act.open(tmp_path / "cases") == found.explanations
    subject = act.wrap(found.network, sites={"final_norm": "encoder"}, example=images[:1])
    torch.testing.assert_close(subject.run(subject.prepare(images)).logits, found.network(images))
    again = prototypes(images, labels, **kept, near_inputs=5.0, near_prototypes=50.0, epochs=100)
    assert again.explanations == found.explanations


def test_no_images_and_no_prototypes_are_refused():
    rest = {"encoder": nn.Flatten(), "decoder": nn.Unflatten(1, (1, 1, 2))}
    with pytest.raises(BadInput, match="at least one image"):
        prototypes(torch.rand(0, 1, 1, 2), torch.zeros(0, dtype=torch.long), **rest)
    with pytest.raises(BadInput, match="numbers from 1"):
        prototypes(torch.rand(4, 1, 1, 2), torch.zeros(4, dtype=torch.long), count=0, **rest)
