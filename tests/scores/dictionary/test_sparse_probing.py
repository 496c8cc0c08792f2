"""Sparse probing against dictionaries that say a label exactly, partly and not at all."""

import pytest
import torch
from fakes import SITE, Linear, Rows, labels_where
from planted_labels import SUBJECT, absorbing, shuffled, true_dictionary, world

from actscope.core.errors import BadInput
from actscope.scores._parts.letters import first_letters
from actscope.scores.dictionary.sparse_probing import sparse_probing


def test_a_latent_that_is_the_label_says_it_alone_and_random_directions_do_not():
    store, labels, _ = world()
    score = sparse_probing(true_dictionary(), SUBJECT, store, labels)
    assert score.value == 1 and score.interval == (1, 1) and score.parts["all"] == 1 and score.parts["coordinates:1"] == 1
    assert score.control < 0.85
    assert score.parts["f1"] == 1 and score.parts["f1_coordinates"] == 1 and score.parts["f1_random"] < 0.9


def test_a_latent_that_misses_a_fifth_of_the_label_is_right_nine_times_in_ten():
    store, labels, _ = world()
    score = sparse_probing(absorbing(), SUBJECT, store, labels)
    low, high = score.interval
    assert low < 0.9 < high and score.parts["k:5"] > score.value + 0.02  # four absorbers more
    assert score.parts["f1"] == pytest.approx(2 * 0.8 / 1.8, abs=0.02)  # it is right wherever it speaks


def test_permuted_labels_are_chance():
    store, labels, _ = world()
    mixed = labels.at(store.where)["a"][torch.randperm(len(store), generator=torch.Generator().manual_seed(3))]
    score = sparse_probing(true_dictionary(), SUBJECT, store, labels_where(store, a=mixed))
    assert score.value == pytest.approx(0.5, abs=0.05) and score.parts["all"] == pytest.approx(0.5, abs=0.06)
    assert score.parts["f1"] == pytest.approx(2 * 0.2 / 1.2, abs=0.05)  # always yes


def test_balanced_sides_prefer_a_latent_that_misses_little_and_f1_one_that_says_little_else():
    """The label holds on 1 row in 20. One latent misses 0.4 of them and is never wrong: accuracy 0.8, F1 1.2 / 1.6. The other
    misses 0.15 and speaks on 0.15 of the rest: accuracy 0.85, F1 2 * 0.85 / (0.85 + 0.15 * 19 + 1)."""
    draw = torch.Generator().manual_seed(0)
    holds, chance = torch.rand(20_000, generator=draw) < 0.05, torch.rand(20_000, generator=draw)
    precise, eager = holds & (chance < 0.6), torch.where(holds, chance < 0.85, chance < 0.15)
    store = Rows({SITE: torch.stack([precise, eager], dim=1).float()})
    eye, labels = torch.eye(2), labels_where(store, a=holds)
    one, other = (
        sparse_probing(Linear(eye[:, i : i + 1], eye[i : i + 1], torch.zeros(2)), SUBJECT, store, labels) for i in (0, 1)
    )
    assert one.value == pytest.approx(0.8, abs=0.03) and other.value == pytest.approx(0.85, abs=0.03)
    assert one.parts["f1"] == pytest.approx(1.2 / 1.6, abs=0.04) and other.parts["f1"] == pytest.approx(1.7 / 4.7, abs=0.03)
    fewer = sparse_probing(Linear(eye, eye, torch.zeros(2)), SUBJECT, store, labels, natural=5000)
    assert fewer.value == other.value and fewer.parts["f1"] == pytest.approx(1.7 / 4.7, abs=0.06)


def test_order_and_scale_of_the_latents_do_not_matter():
    store, labels, _ = world()
    one, other = (sparse_probing(made, SUBJECT, store, labels) for made in (absorbing(), shuffled(absorbing())))
    assert other.value == pytest.approx(one.value) and other.parts["k:5"] == pytest.approx(one.parts["k:5"], abs=0.01)


def test_the_latent_is_chosen_on_the_choosing_documents_alone():
    """Coordinate 0 is the label on the choosing half and noise on the other; coordinate 1 the reverse."""
    draw = torch.Generator().manual_seed(0)
    x, holds = torch.rand(4000, 6, generator=draw), torch.rand(4000, generator=draw) < 0.3
    first = torch.arange(4000) < 2000
    x[:, 0], x[:, 1] = torch.where(first, holds, x[:, 0] > 0.5).float(), torch.where(first, x[:, 1] > 0.5, holds).float()
    store = Rows({SITE: x})
    given = {"choose": range(200), "test": range(200, 400)}
    eye = Linear(torch.eye(6), torch.eye(6), torch.zeros(6))
    assert sparse_probing(eye, SUBJECT, store, labels_where(store, a=holds), **given).value == pytest.approx(0.5, abs=0.04)
    with pytest.raises(BadInput, match="none in common"):
        sparse_probing(eye, SUBJECT, store, labels_where(store, a=holds), choose=[1], test=[1])
    with pytest.raises(BadInput, match="None of the 1 labels"):
        sparse_probing(eye, SUBJECT, store, labels_where(store, a=torch.arange(4000) < 30))


def test_without_labels_it_asks_for_first_letters(monkeypatch):
    class Spelt(Rows):
        @property
        def text(self):
            return torch.arange(len(self)) % 6, self.where

    words = ["Apple", " ant", "bee", "1a", "é", ""]
    monkeypatch.setattr(SUBJECT, "pieces", lambda ids: [words[i] for i in ids])
    store = Spelt({SITE: torch.zeros(12, 2)})
    labels = first_letters(store, SUBJECT)
    found = labels.at(store.where)
    assert labels.causes == ["letter.a", "letter.b"]
    assert found["letter.a"].nonzero()[:, 0].tolist() == [0, 1, 6, 7] and found["letter.b"].nonzero()[:, 0].tolist() == [2, 8]
