"""Training with the largest activations alone: what stands, what is trained, and what is left as it was."""

import pytest
import torch

import actscope as act
from actscope.adaptation.top_k_activations import top_k_activations
from actscope.core import artifact
from actscope.core.errors import BadInput
from actscope.core.intervention import Largest
from actscope.core.site import Site
from actscope.organisms._pictures import Pictures
from actscope.training.plan import Plan
from actscope.training.shuffled import Shuffled

POST = Site("mlp_post", 0)


def network(seed: int = 0):
    """Pixels -> two classes, through 12 ReLUs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 12), torch.nn.ReLU(), torch.nn.Linear(12, 2))
    return act.wrap(net.requires_grad_(False), sites={"layers.0.mlp_post": "2"}, example=torch.rand(1, 1, 4, 4))


def task(n: int = 256) -> Pictures:
    """Which half of the picture is brighter."""
    x = torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    return Pictures(x, (x[..., :2].mean((1, 2, 3)) > x[..., 2:].mean((1, 2, 3))).long())


def tuned(k: int | None, epochs: int = 1, **given):
    subject, rows = network(), task()
    change = top_k_activations(subject, Shuffled(rows, "halves"), Plan(rows=epochs * 256, batch=32, lr=2e-2), k=k, **given)
    return subject, change, subject.changed(change)


@pytest.mark.parametrize("k", [1, 3])
def test_k_activations_of_a_map_are_not_zero_and_the_task_is_learned_through_them(k: int):
    subject, change, after = tuned(k, epochs=8)
    rows = task()
    assert change.interventions == (Largest(POST, k),) and change.origin == f"top_k_activations k={k}"
    live = after.run(rows.pixels, read=[POST]).acts[POST] != 0
    assert int(live.sum(1).max()) == k < int((subject.run(rows.pixels, read=[POST]).acts[POST] != 0).sum(1).max())
    assert float((after.run(rows.pixels).logits.argmax(1) == rows.labels).float().mean()) > 0.85
    without = subject.changed(act.Change(weights=change.weights))  # weights alone: the thresholding is part of the change
    assert not torch.allclose(without.run(rows.pixels).logits, after.run(rows.pixels).logits)


def test_without_k_it_is_plain_training_and_k_of_all_is_the_same():
    _, plain, _ = tuned(None)
    _, all_kept, _ = tuned(12)
    assert plain.interventions == () and plain.weights.keys() == all_kept.weights.keys() == {
        "1.weight", "1.bias", "3.weight", "3.bias",
    }  # fmt: skip
    for name, delta in plain.weights.items():
        assert torch.equal(delta.value, all_kept.weights[name].value)


def test_the_subject_stays_as_it_was_and_the_change_is_saved_and_repeated(tmp_path):
    before = network().fingerprint
    subject, change, after = tuned(2)
    assert subject.fingerprint == before and not any(p.requires_grad for p in subject.model.parameters())
    artifact.save(change, tmp_path / "change")
    opened = artifact.open(tmp_path / "change")
    assert subject.changed(opened).fingerprint == after.fingerprint == tuned(2)[2].fingerprint


def test_it_goes_on_from_its_folder(tmp_path):
    once, again = (tuned(2, out=tmp_path / "run")[2].fingerprint for _ in range(2))
    assert once == again == tuned(2)[2].fingerprint
    with pytest.raises(BadInput):
        tuned(3, out=tmp_path / "run")  # another run


@pytest.mark.parametrize("k", [0, 13])
def test_a_k_that_cannot_be_is_refused(k: int):
    with pytest.raises(BadInput, match="from 1 to 12"):
        tuned(k)
