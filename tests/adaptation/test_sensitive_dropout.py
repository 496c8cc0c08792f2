"""Sensitivity dropout: what varies is what is dropped, in training only, and the result is a change."""

import pytest
import torch

from actscope.adaptation._parts.tuning import IGNORED, Texts, Tuning
from actscope.adaptation.sensitive_dropout import Silenced, sensitive_dropout, variability, vectors
from actscope.core.errors import BadInput
from actscope.core.inputs import Inputs
from actscope.core.intervention import Zero
from actscope.core.site import Site
from actscope.organisms._model import LanguageModel
from actscope.subjects.hf import HFSubject

SITE = Site("resid_post", 1)


def subject(layers: int = 3, seed: int = 0) -> HFSubject:
    sizes = {"vocabulary": 20, "width": 16, "layers": layers, "heads": 2, "context": 8}
    return HFSubject(LanguageModel(**sizes, seed=seed).model.requires_grad_(False), None, "small")


class Counting:
    """Rows that count up from anywhere: 3 4 5 6 ..."""

    identity = "counting"

    def batches(self, size: int, *, seed: int, start: int):
        number = start
        while True:
            draw = torch.Generator().manual_seed(1000 * seed + number)
            ids = torch.randint(12, (size, 1), generator=draw) + torch.arange(8)
            yield Texts(ids, torch.cat([ids[:, 1:], torch.full((size, 1), IGNORED)], 1))
            number += 1


TRACKED = Inputs(ids=torch.arange(12)[:, None] + torch.arange(6))


def test_variability_is_the_papers_in_closed_form():
    over = torch.zeros(3, 2, 4)
    over[:, 0, 1] = torch.tensor([0.0, 3.0, 0.0])  # variance 2, change 6
    over[:, 1, 2] = torch.tensor([1.0, 1.0, 4.0])  # variance 2, change 3
    assert variability(over).tolist() == pytest.approx([0, 6, 3, 0])
    assert torch.allclose(variability(over + 7), variability(over))
    assert torch.allclose(variability(2 * over), 8 * variability(over))


def test_a_texts_vector_is_half_its_mean_and_half_its_last_token_and_padding_is_nothing():
    small = subject()
    ids = torch.tensor([[3, 4, 5, 6, 7]])
    x = small.run(Inputs(ids=ids), read=[SITE]).acts[SITE][0]
    assert torch.allclose(vectors(small, Inputs(ids=ids), SITE)[0], (x.mean(0) + x[-1]) / 2)
    padded = Inputs(ids=torch.tensor([[3, 4, 5, 6, 7, 0, 0]]), mask=torch.arange(7)[None] < 5)
    assert torch.allclose(vectors(small, padded, SITE)[0], (x.mean(0) + x[-1]) / 2, atol=1e-5)


def test_silenced_coordinates_are_zero_and_others_as_they_were():
    small, ids = subject(), Inputs(ids=torch.arange(8)[None])
    x = small.run(ids, read=[SITE]).acts[SITE]
    kept = torch.arange(16) % 4 > 0
    after = small.run(ids, read=[SITE], write=[Silenced(SITE, kept)]).acts[SITE]
    assert (after[..., ~kept] == 0).all() and torch.equal(after[..., kept], x[..., kept])
    nothing = small.run(ids, write=[Silenced(SITE, torch.zeros(16, dtype=torch.bool))]).logits
    torch.testing.assert_close(nothing, small.run(ids, write=[Zero(SITE)]).logits)


def test_the_twin_is_trained_and_the_subject_is_not_and_the_change_makes_one_the_other():
    small = subject()
    before = {name: value.clone() for name, value in small.weights().items()}
    seen = []
    change = sensitive_dropout(
        small, Counting(), TRACKED, intervals=5, steps=4, lr=3e-3, watch=lambda number, now: seen.append((number, now))
    )
    assert all(torch.equal(value, before[name]) for name, value in small.weights().items())
    assert [number for number, _ in seen] == [1, 2, 3, 4, 5]
    tuned = small.changed(change)
    logits = tuned.run(TRACKED).logits
    torch.testing.assert_close(logits, seen[-1][1].run(TRACKED).logits)
    batch = next(Counting().batches(64, seed=9, start=0))

    def loss(one: HFSubject) -> float:
        return float(Tuning(one, {}).objective(batch, progress=1.0)["loss"].detach())

    assert loss(tuned) < loss(small) - 0.2
    again = sensitive_dropout(small, Counting(), TRACKED, intervals=5, steps=4, lr=3e-3)
    assert all(torch.equal(delta.value, change.weights[name].value) for name, delta in again.weights.items())


def test_what_is_dropped_is_chosen_after_the_window_and_changes_what_is_learnt():
    small = subject()

    def tuned(**given) -> torch.Tensor:
        change = sensitive_dropout(small, Counting(), TRACKED, steps=3, lr=3e-3, **given)
        return small.changed(change).run(TRACKED).logits

    plain = tuned(intervals=3, share=0.0)
    assert torch.equal(plain, tuned(intervals=3))  # nothing is dropped before three checkpoints have been seen
    plain = tuned(intervals=4, share=0.0)
    assert not torch.allclose(plain, tuned(intervals=4)) and not torch.allclose(tuned(intervals=4, choice="random"), plain)
    assert torch.equal(plain, tuned(intervals=4, window=4)) and not torch.equal(plain, tuned(intervals=4, window=2))


def test_numbers_that_cannot_be_are_told():
    with pytest.raises(BadInput, match="share=1"):
        sensitive_dropout(subject(), Counting(), TRACKED, share=1.0)
    with pytest.raises(BadInput, match="needs two"):
        sensitive_dropout(subject(layers=1), Counting(), TRACKED)
