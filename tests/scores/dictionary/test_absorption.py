"""Absorption and splitting against dictionaries in which both are planted at known rates."""

import pytest
import torch
from fakes import SITE, Linear, Rows, labels_where
from planted_labels import SUBJECT, D, N, absorbing, shuffled, true_dictionary, world

from actscope.core.errors import BadInput
from actscope.scores.dictionary.absorption import absorption
from actscope.scores.dictionary.splitting import splitting


@pytest.mark.parametrize("share", [0.02, 0.04])
def test_the_planted_rate_is_measured(share: float):
    store, labels, kind = world(share)
    score = absorption(absorbing(), SUBJECT, store, labels, most=N)
    truth = float((kind > 0).sum() / labels.at(store.where)["a"].sum())
    low, high = score.interval
    assert (
        low <= truth <= high and score.value == pytest.approx(truth, abs=0.03) and truth == pytest.approx(5 * share, abs=0.02)
    )
    assert score.parts["silent"] == score.parts["fraction"] == score.value  # all of it by one other latent
    assert score.parts["latents"] == 1  # each absorber takes too little for the F1 to jump


def test_without_absorption_there_is_none():
    store, labels, _ = world()
    score = absorption(true_dictionary(), SUBJECT, store, labels)
    assert score.value == score.parts["fraction"] == score.parts["silent"] == 0


def test_latents_that_do_not_point_along_the_label_do_not_absorb_it():
    """The main latent is silent at the five kinds, and nobody says the label in its place."""
    store, labels, _ = world()
    dictionary = absorbing()
    dictionary.decoder[1:6, 0] = 0.0
    score = absorption(dictionary, SUBJECT, store, labels)
    assert score.parts["silent"] > 0.1 and score.value < 0.2 * score.parts["silent"]
    planted = absorption(absorbing(), SUBJECT, store, labels)
    assert planted.control < 0.5 * planted.value


def test_half_of_what_is_to_be_given_is_absorbed_in_part_and_not_fully():
    """At the kinds the main latent gives half, the absorber the other half."""
    store, labels, _ = world()
    dictionary = absorbing()
    dictionary.encoder[1:6, 0], dictionary.decoder[1:6, 0] = -0.5, 0.5
    whole, part = (absorption(one, SUBJECT, store, labels) for one in (absorbing(), dictionary))
    assert part.value == 0 and part.parts["silent"] == 0
    assert part.parts["fraction"] == pytest.approx(0.5 * whole.parts["fraction"], abs=0.015)


def test_order_and_scale_of_the_latents_and_a_shift_of_the_rows_do_not_matter():
    store, labels, _ = world()
    one = absorption(absorbing(), SUBJECT, store, labels)
    assert absorption(shuffled(absorbing()), SUBJECT, store, labels).value == one.value
    shift = torch.linspace(-3, 9, D)
    encoder = absorbing().encoder

    class Shifted(Linear):
        def preacts(self, x):
            return (self.joined(x) - shift) @ encoder

    moved = Shifted(encoder, absorbing().decoder, shift)
    far = Rows({SITE: next(iter(store.acts.values())) + shift})
    assert absorption(moved, SUBJECT, far, labels).value == pytest.approx(one.value, abs=1e-6)


def test_a_label_the_model_does_not_have_is_left_out():
    store, labels, _ = world()
    noise = torch.rand(N, generator=torch.Generator().manual_seed(7)) < 0.2
    both = labels_where(store, a=labels.at(store.where)["a"], noise=noise)
    score = absorption(absorbing(), SUBJECT, store, both)
    assert score.n == 1 and score.parts["left_out"] == 1 and "full:noise" not in score.parts
    with pytest.raises(BadInput, match="No linear probe"):
        absorption(absorbing(), SUBJECT, store, labels_where(store, noise=noise))


@pytest.mark.parametrize("pieces", [1, 3])
def test_splitting_counts_the_pieces_a_label_was_cut_into(pieces: int):
    """The label holds where one of `pieces` coordinates is on; each has its own latent."""
    draw = torch.Generator().manual_seed(0)
    piece = (torch.rand(N, generator=draw) * 5 * pieces).long()
    x = (torch.rand(N, 10, generator=draw) < 0.3).float()
    x[:, :pieces] = torch.nn.functional.one_hot(piece, 5 * pieces)[:, :pieces].float()
    store = Rows({SITE: x})
    labels = labels_where(store, a=piece < pieces)
    eye = Linear(torch.eye(10), torch.eye(10), torch.zeros(10))
    score = splitting(eye, SUBJECT, store, labels)
    assert score.value == pieces and score.interval == (pieces, pieces) and score.parts["f1:a"] == 1
    assert score.control <= 2  # of permuted labels: noise makes the F1 jump once at most
    assert splitting(shuffled(eye), SUBJECT, store, labels).value == pieces
    assert score.parts["f1:1"] == pytest.approx(1 if pieces == 1 else 0.5, abs=0.05)


def test_a_label_that_no_latent_says_is_not_called_whole():
    store, labels, _ = world()
    noise = torch.rand(N, generator=torch.Generator().manual_seed(7)) < 0.2
    score = splitting(true_dictionary(), SUBJECT, store, labels_where(store, a=labels.at(store.where)["a"], noise=noise))
    assert score.n == 1 and score.parts["unsaid"] == 1 and score.value == 1
