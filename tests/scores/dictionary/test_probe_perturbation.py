"""Removing a label's latents, and a coincidence's, against worlds of independent labels whose latents are known."""

import pytest
import torch
from fakes import SITE, Linear, Rows, labels_where
from planted_labels import SUBJECT, shuffled

from actscope.core.errors import BadInput
from actscope.scores.dictionary.probe_perturbation import probe_perturbation
from actscope.scores.dictionary.spurious_removal import spurious_removal

N, D = 4000, 8
EYE = Linear(torch.eye(D), torch.eye(D), torch.zeros(D))


def world():
    """Four independent labels, each its own coordinate."""
    draw = torch.Generator().manual_seed(0)
    x = (torch.rand(N, D, generator=draw) < 0.3).float() * (1 + torch.rand(N, D, generator=draw))
    store = Rows({SITE: x})
    return store, labels_where(store, **{f"c{i}": x[:, i] > 0 for i in range(4)})


def rotated() -> Linear:
    """Rebuilds every row from directions that mix all coordinates."""
    turn = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(1))).Q
    return Linear(torch.cat([turn, -turn], 1), torch.cat([turn.T, -turn.T]), torch.zeros(D))


def test_one_latent_a_label_harms_its_probe_down_to_chance_and_no_other():
    store, labels = world()
    score = probe_perturbation(EYE, SUBJECT, store, labels, together=1.0, ns=(1,), at=1)
    assert score.parts["clean"] == 1 and score.parts["intended:1"] == 0.5 and score.parts["unintended:1"] == 0
    assert score.value == 0.5 and all(score.parts[f"label:c{i}"] == pytest.approx(0.5) for i in range(4))
    assert score.control < 0.05


def test_a_latent_that_two_labels_share_is_charged_what_it_costs_the_other():
    """Latent 1 adds up coordinates 0 and 1. Without it, both probes always say no and lose 1/2: a mean 1/6 over c0's others."""
    store, labels = world()
    encoder, decoder = torch.eye(D), torch.eye(D)
    encoder[:, 0], encoder[0, 1], decoder[1, 0] = 0.0, 1.0, 1.0
    shared = Linear(encoder, decoder, torch.zeros(D))
    score = probe_perturbation(shared, SUBJECT, store, labels, together=1.0, ns=(1,), at=1)
    assert [score.parts[f"label:c{i}"] for i in range(4)] == pytest.approx([1 / 3, 1 / 3, 1 / 2, 1 / 2])
    assert score.parts["intended:1"] == 0.5 and score.parts["unintended:1"] == pytest.approx(1 / 12)


def test_mixed_directions_cannot_harm_a_probe_alone():
    """To take a label away altogether, they take from the others, and the more of them the more."""
    store, labels = world()
    score = probe_perturbation(rotated(), SUBJECT, store, labels, together=1.0, ns=(1, 4, 16), at=1)
    assert score.parts["intended:16"] == 0.5 and score.parts["n:16"] < 0.5
    assert 0 < score.parts["unintended:1"] < score.parts["unintended:4"] < score.parts["unintended:16"]


def test_order_and_scale_of_the_latents_do_not_matter():
    store, labels = world()
    one, other = (
        probe_perturbation(made, SUBJECT, store, labels, together=1.0, ns=(1, 3), at=1)
        for made in (rotated(), shuffled(rotated()))
    )
    assert one.value == pytest.approx(other.value, abs=1e-6) and one.parts["n:3"] == pytest.approx(other.parts["n:3"], abs=1e-6)


def test_a_label_is_no_other_of_one_that_contains_it():
    store, _ = world()
    x = next(iter(store.acts.values()))
    holds = labels_where(store, c0=x[:, 0] > 0, inside=(x[:, 0] > 0) & (x[:, 1] > 0))
    with pytest.raises(BadInput, match="None of the 2 labels has another"):
        probe_perturbation(EYE, SUBJECT, store, holds)
    alone = labels_where(store, c0=(x[:, 0] > 0) & (x[:, 1] == 0), c1=(x[:, 1] > 0) & (x[:, 0] == 0))
    assert probe_perturbation(EYE, SUBJECT, store, alone, at=1, ns=(1,)).n == 2


def test_removing_the_latent_of_a_coincidence_frees_the_probe():
    store, labels = world()
    score = spurious_removal(EYE, store, labels, pairs=[("c0", "c1"), ("c2", "c0")], ns=(1,), at=1)
    assert score.value == 1 and score.interval == (1, 1)
    assert score.parts["biased"] == pytest.approx(0.75, abs=0.02) and score.parts["balanced"] == 1
    assert score.parts["zero:1"] < 0.6  # with zeros, as usual in the field, the right latent does not free it
    assert score.control < 0.1  # another latent does not


def test_removing_everything_frees_nothing():
    store, labels = world()
    score = spurious_removal(EYE, store, labels, pairs=[("c0", "c1")], ns=(1, D), at=D)
    assert score.value < -0.5  # the label is gone too
    mixed = spurious_removal(rotated(), store, labels, pairs=[("c0", "c1")], ns=(1,), at=1)
    again = spurious_removal(shuffled(rotated()), store, labels, pairs=[("c0", "c1")], ns=(1,), at=1)
    assert mixed.value < 0.8 and again.value == pytest.approx(mixed.value, abs=1e-6)


def test_what_cannot_be_a_coincidence_is_refused():
    store, labels = world()
    with pytest.raises(BadInput, match="No label nope"):
        spurious_removal(EYE, store, labels, pairs=[("c0", "nope")])
    with pytest.raises(BadInput, match="rows of both"):
        spurious_removal(EYE, store, labels, pairs=[("c0", "c0")])
    draw = torch.Generator().manual_seed(2)
    noise = labels_where(store, one=torch.rand(N, generator=draw) < 0.5, two=torch.rand(N, generator=draw) < 0.5)
    with pytest.raises(BadInput, match="nothing to win back"):
        spurious_removal(EYE, store, noise, pairs=[("one", "two")], most=2000)
