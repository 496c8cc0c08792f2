"""Digits and the OR-neuron: their pictures are what they say, and their networks learn them and can be read and written."""

import builtins

import pytest
import torch

from actscope.core.errors import MissingExtra, UsageError
from actscope.core.intervention import Replace, Zero
from actscope.core.site import Site
from actscope.organisms.digits import CHOSEN, TRAINED, decoder, digits, encoder, pictures
from actscope.organisms.or_neuron import CODE, EITHER, SHIFT, or_neuron


@pytest.fixture(scope="module")
def neuron():
    return or_neuron(0, channels=8, pictures=2000, epochs=6)


def test_the_three_parts_of_the_digits_share_no_picture_and_are_all_of_them():
    split = pictures(0)
    assert [len(part.labels) for part in split] == [TRAINED, CHOSEN, 597]
    every = torch.cat([part.pixels for part in split]).flatten(1)
    assert len(every.unique(dim=0)) == 1797 and every.min() == 0 and every.max() == 1
    again, other = pictures(0), pictures(1)
    assert torch.equal(split.train.pixels, again.train.pixels) and not torch.equal(split.train.pixels, other.train.pixels)
    # a picture keeps its label, whatever the split
    kept = {tuple(x.tolist()): int(y) for part in split for x, y in zip(part.pixels.flatten(1), part.labels, strict=True)}
    assert all(kept[tuple(x.tolist())] == y for x, y in zip(other.judge.pixels.flatten(1), other.judge.labels, strict=True))


@pytest.mark.parametrize(
    ("settings", "epochs", "reached"),
    [({"kind": "cnn", "width": 8}, 10, 0.8), ({"kind": "mlp"}, 20, 0.9), ({"kind": "vit", "width": 16, "layers": 1}, 12, 0.6)],
    ids=["cnn", "mlp", "vit"],
)
def test_each_kind_learns_and_every_site_is_read_and_written(settings, epochs, reached):
    subject, split = digits(0, **settings, epochs=epochs, moved=False)
    x = subject.prepare(split.judge.pixels)
    logits = subject.run(x).logits
    assert (logits.argmax(1) == split.judge.labels).float().mean() > reached
    untrained = digits(0, **settings, epochs=0).subject
    assert (untrained.run(x).logits.argmax(1) == split.judge.labels).float().mean() < 0.4
    acts = subject.run(x, read=subject.order).acts
    for site in subject.order:
        torch.testing.assert_close(subject.run(x, write=[Replace(site, acts[site])]).logits, logits)
        assert not torch.allclose(subject.run(x, write=[Zero(site)]).logits, logits), site


def test_a_classifier_is_trained_alike_twice_and_is_taken_up_from_its_folder(tmp_path):
    small = {"kind": "mlp", "hidden": (8,), "epochs": 2}
    one, two = digits(3, **small), digits(3, **small, out=tmp_path / "out")
    again = digits(3, **small, out=tmp_path / "out")
    assert one.subject.fingerprint == two.subject.fingerprint == again.subject.fingerprint
    assert one.subject.fingerprint != digits(3, **small, attack=0.1).subject.fingerprint


def test_the_encoder_and_the_decoder_fit_each_other():
    x = torch.rand(3, 1, 8, 8)
    code = encoder(4)(x)
    assert code.shape == (3, 40) and code.min() >= 0
    assert decoder(4)(code).shape == x.shape


def test_numbers_that_cannot_be_and_a_package_that_is_not_there_are_told(monkeypatch):
    with pytest.raises(UsageError, match="heads divide"):
        digits(0, kind="vit", width=30)
    with pytest.raises(UsageError, match="at least a batch"):
        or_neuron(0, pictures=10)
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("sklearn"):
            raise ImportError("No module named 'sklearn'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr("importlib.import_module", lambda name: without(name))
    with pytest.raises(MissingExtra, match="scikit-learn"):
        pictures(0)


def test_a_picture_shows_the_shape_it_is_said_to_and_two_shapes_share_a_class(neuron):
    x, shape = neuron.world.pictures(600, seed=1)
    assert torch.equal(x.labels, (shape - 1).clamp(min=0)) and set(shape.tolist()) == set(range(9))
    assert 0.4 < (x.labels == EITHER).float().mean() < 0.6
    # at the best place, the shape shown is the one most like the picture
    places = [(a, b) for a in range(-SHIFT, SHIFT + 1) for b in range(-SHIFT, SHIFT + 1)]
    moved = torch.stack([neuron.world.shapes.roll(place, (1, 2)) for place in places])
    moved = moved / moved.flatten(2).norm(dim=2)[..., None, None]
    like = torch.einsum("nhw,pshw->nps", x.pixels[:, 0], moved).amax(1).argmax(1)
    assert (like == shape).float().mean() > 0.95
    assert torch.equal(x.pixels, neuron.world.pictures(600, seed=1)[0].pixels)


def test_its_neuron_fires_for_either_shape_and_not_for_others(neuron):
    x, shape = neuron.world.pictures(600, seed=2)
    logits = neuron.subject.run(neuron.subject.prepare(x.pixels)).logits
    fires = [float((logits[shape == one].argmax(1) == EITHER).float().mean()) for one in range(9)]
    assert min(fires[:2]) > 0.9 > 0.4 > max(fires[2:])
    code = neuron.subject.run(neuron.subject.prepare(x.pixels), read=[CODE, Site("logits")]).acts
    torch.testing.assert_close(
        code[CODE] @ neuron.subject.weights()["head.weight"].T + neuron.subject.weights()["head.bias"], code[Site("logits")]
    )
