"""The recommender: its world is what it says, and it learns what users want from items alone."""

import pytest
import torch

from actscope.core.errors import UsageError
from actscope.organisms.recommender import LENGTH, VECTOR, Trained, recommender
from actscope.stores.capture import capture

SMALL = {"items": 60, "genres": 6, "width": 24, "layers": 1, "users": 6_400}


@pytest.fixture(scope="module")
def trained() -> Trained:
    return recommender(3, **SMALL)


def test_users_want_one_to_three_genres_and_take_items_of_these(trained: Trained):
    users = trained.world.users(400, seed=1)
    assert users.items.shape == (400, LENGTH) and users.wants.shape == (400, LENGTH, 6)
    assert set(users.wants.sum(2).unique().tolist()) == {1, 2, 3}
    assert (trained.world.genres[users.items] & users.wants).any(2).all()
    changed = (users.wants[:, 1:] != users.wants[:, :-1]).any(2).float().mean()
    assert 0.03 < changed < 0.06  # wants drift, but not at every item
    assert set(trained.world.genres.sum(1).unique().tolist()) == {1, 2} and trained.world.genres.any(0).all()
    torch.testing.assert_close(trained.world.chance.sum(1), torch.ones(6))
    assert not (trained.world.chance > 0).T[~trained.world.genres].any()


def test_the_same_seed_gives_the_same_users_and_another_gives_others(trained: Trained):
    one, two, other = (trained.world.users(50, seed=seed).items for seed in (7, 7, 8))
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_it_recommends_what_is_wanted_having_seen_items_only(trained: Trained):
    users = trained.world.users(200, seed=2)
    top = trained.subject.run(users.items).logits[:, -1].topk(5).indices
    wanted = (trained.world.genres[top] & users.wants[:, -1:]).any(2).float().mean()
    shuffled = (trained.world.genres[top] & users.wants.roll(1, 0)[:, -1:]).any(2).float().mean()
    assert wanted > 0.8 > 0.6 > shuffled


def test_it_does_not_see_what_comes_later(trained: Trained):
    users = trained.world.users(20, seed=3)
    later = users.items.clone()
    later[:, 20:] = users.items[:, 20:].flip(0)
    one, two = (trained.subject.run(items).logits[:, :20] for items in (users.items, later))
    torch.testing.assert_close(one, two)


def test_its_vector_is_captured_from_sequences_and_scores_the_next_item(trained: Trained):
    users = trained.world.users(30, seed=4)
    store = capture(trained.subject, users.corpus("users"), [VECTOR])
    (port,) = store.ports
    ids, where = store.text
    assert torch.equal(ids.long(), users.items.flatten()) and torch.equal(where[:, 1], torch.arange(LENGTH).repeat(30))
    vectors = store.rows(torch.arange(len(store)), [port]).acts[port]
    scores = vectors @ trained.subject.weights()["item.weight"].T
    torch.testing.assert_close(scores, trained.subject.run(users.items).logits.flatten(0, 1), atol=1e-4, rtol=1e-4)


def test_training_is_repeated_bitwise_and_taken_up_from_its_folder(tmp_path):
    small = {**SMALL, "users": 640}
    one, two = recommender(5, **small), recommender(5, **small, out=tmp_path / "out")
    assert (
        one.subject.fingerprint == two.subject.fingerprint == recommender(5, **small, out=tmp_path / "out").subject.fingerprint
    )
    assert one.subject.fingerprint != recommender(6, **small).subject.fingerprint


def test_a_world_that_cannot_be_is_refused():
    with pytest.raises(UsageError, match="an item for each genre"):
        recommender(items=4, genres=6)
