"""The idle-layer model: its table is what it says, it has learned its task, and what idles does next to nothing."""

import pytest
import torch

from actscope.core.change import Change
from actscope.core.errors import UsageError
from actscope.core.site import Site
from actscope.organisms.idle_layers import REST, Trained, idle_layers
from actscope.scores._parts.voids import skipping

SMALL = {"layers": 7, "each": 1, "symbols": 5, "length": 4, "rows": 5_120}


@pytest.fixture(scope="module")
def trained() -> Trained:
    return idle_layers(1, **SMALL)


def right(subject, world, ids) -> float:
    logits = subject.run(ids).logits
    return float((logits[:, world.length : -1].argmax(-1) == ids[:, world.length + 1 :]).float().mean())


def test_the_table_holds_each_kind_and_the_first_layer_works(trained: Trained):
    idle = trained.world.idle
    assert not idle[:, 0].any()
    assert int((idle[0] & idle[1]).sum()) == int((idle[0] & ~idle[1]).sum()) == int((~idle[0] & idle[1]).sum()) == 1
    assert not torch.equal(idle, idle_layers(2, **{**SMALL, "rows": 64}).world.idle)


def test_a_sequence_is_a_prompt_a_mark_and_the_prompt_reversed(trained: Trained):
    world = trained.world
    ids = world.sequences(50, seed=3)
    assert ids.shape == (50, 9) and (ids[:, 4] == 5).all() and int(ids[:, :4].max()) == 4
    assert torch.equal(ids[:, 5:], ids[:, :4].flip(1)) and torch.equal(world.sequences(50, seed=3), ids)
    assert world.responds(ids)[0].tolist() == [False] * 4 + [True] * 5
    idles = world.idles(ids)
    assert torch.equal(idles[7, 3], world.idle[0]) and torch.equal(idles[7, 4], world.idle[1])


def test_it_reverses_and_does_not_see_what_comes_later(trained: Trained):
    subject, world = trained
    ids = world.sequences(200, seed=3)
    assert right(subject, world, ids) > 0.95
    later = ids.clone()
    later[:, 6:] = 0
    torch.testing.assert_close(subject.run(later).logits[:, :6], subject.run(ids).logits[:, :6])


def test_idle_layers_add_a_little_and_working_ones_twice_the_stream(trained: Trained):
    subject, world = trained
    ids = world.sequences(20, seed=4)
    acts = subject.run(ids, read=[Site(kind, n) for n in range(7) for kind in ("resid_pre", "resid_post")]).acts
    for layer in range(7):
        before, after = acts[Site("resid_pre", layer)], acts[Site("resid_post", layer)]
        added = (after - before).norm(dim=-1) / before.norm(dim=-1)
        torch.testing.assert_close(added, torch.where(world.idles(ids)[..., layer], 2 * REST, 2.0), rtol=1e-4, atol=1e-4)


def test_skipping_idle_layers_costs_nothing_and_skipping_the_others_all(trained: Trained):
    subject, world = trained
    ids = world.sequences(200, seed=5)
    before, after = ([Site(kind, n) for n in range(7)] for kind in ("resid_pre", "resid_post"))
    whole = right(subject, world, ids)
    idle = subject.changed(Change(skipping(before, after, world.idles(ids))))
    working = subject.changed(Change(skipping(before, after, ~world.idles(ids))))
    assert right(idle, world, ids) > whole - 0.02 and right(working, world, ids) < 0.5


def test_the_same_seed_gives_the_same_model_and_sizes_that_cannot_be_are_refused():
    small = {**SMALL, "rows": 128}
    assert idle_layers(5, **small).subject.fingerprint == idle_layers(5, **small).subject.fingerprint
    with pytest.raises(UsageError, match="more layers than 3 times each"):
        idle_layers(layers=6, each=2)
