"""Films whose flow is known, and a predictor that is trained on frames alone."""

import pytest
import torch
from torch.nn import functional

from actscope.core.errors import UsageError
from actscope.core.inputs import Inputs
from actscope.organisms.moving_sprites import HIDDEN, MOVES, PALETTE, SIDE, SIZE, films, ids_of, moving_sprites, shown


def test_a_patch_that_is_seen_again_stands_where_its_flow_leads():
    some = films(200, seed=1)
    film, y, x = some.seen.nonzero().T
    dy, dx = some.flow[film, y, x].T
    assert torch.equal(some.second[film, y + dy, x + dx], some.first[film, y, x])
    assert (some.first[some.seen] > 0).all() and some.first.max() < len(PALETTE)
    assert {tuple(move) for move in some.flow[some.seen].tolist()} == set(MOVES)
    assert (some.flow[some.first == 0] == 0).all()
    front = some.seen.flatten(1).sum(1)
    assert front.min() >= SIZE * SIZE and front.max() == 2 * SIZE * SIZE  # the sprite in front is all there
    again, other = films(200, seed=1), films(200, seed=2)
    assert torch.equal(again.second, some.second) and not torch.equal(other.second, some.second)


def test_a_share_of_the_second_frame_is_shown_and_the_rest_hidden():
    some = films(100, seed=3)
    draw = torch.Generator().manual_seed(0)
    visible = shown(some.second, torch.linspace(0, 1, 100), draw)
    here = visible != HIDDEN
    assert torch.equal(visible[here], some.second[here])
    assert not here[0].any() and here[-1].float().mean() > 0.9 and here.float().mean() == pytest.approx(0.5, abs=0.05)


def test_training_tells_where_sprites_are_and_is_the_same_twice():
    some = films(200, seed=7)
    visible = shown(some.second, torch.full((200,), 0.25), torch.Generator().manual_seed(1))
    hidden, said = (visible == HIDDEN).flatten(1), some.second.flatten(1)

    def loss(subject) -> float:
        logits = subject.run(Inputs(ids=ids_of(some.first, visible))).logits
        assert logits.shape == (200, SIDE * SIDE, len(PALETTE))
        return float(functional.cross_entropy(logits[hidden], said[hidden]))

    small = {"channels": 16, "layers": 1}
    subject, once, again = (moving_sprites(0, **small, seen=seen) for seen in (2400, 64, 64))
    assert once.fingerprint == again.fingerprint != moving_sprites(1, **small, seen=64).fingerprint
    often = torch.bincount(said[hidden]).float()
    blind = float(-(often / often.sum() * (often / often.sum()).log()).sum())  # of the colours' frequencies alone
    assert loss(subject) < 0.85 * blind < loss(moving_sprites(0, **small, seen=0))


def test_the_predictions_of_patches_do_not_depend_on_each_other_but_on_what_is_shown():
    subject = moving_sprites(0, channels=8, layers=1, seen=0)
    some = films(1, seed=0)
    hidden = shown(some.second, torch.zeros(1), torch.Generator())
    logits = subject.run(Inputs(ids=ids_of(some.first, hidden))).logits
    shows = hidden.clone()
    shows[0, 0, 0] = some.second[0, 0, 0]
    other = subject.run(Inputs(ids=ids_of(some.first, shows))).logits
    moved = (logits != other).any(-1).view(SIDE, SIDE)
    assert moved[0, 0] and not moved[-1, -1]  # its reach is local


def test_numbers_that_cannot_be_are_told():
    with pytest.raises(UsageError, match="a batch of them"):
        moving_sprites(0, seen=10)
