"""The model with planted sinks: its language is what it says, it is learned, and first token and mark are sinks."""

import pytest
import torch

from actscope.core.errors import UsageError
from actscope.core.site import Site
from actscope.organisms.planted_sinks import BEGIN, FOLLOWERS, LENGTH, MARK, TRIGGERS, WORDS, Trained, planted_sinks
from actscope.scores._parts.sinks import received

SMALL = {"words": 16, "width": 32, "layers": 2, "rows": 2_560}


@pytest.fixture(scope="module")
def trained() -> Trained:
    return planted_sinks(3, **SMALL)


def test_a_trigger_is_followed_by_the_word_before_it_and_another_word_by_the_table(trained: Trained):
    ids = trained.world.sequences(300, seed=1, marked=False).ids
    assert ids.shape == (300, LENGTH) and (ids[:, 0] == BEGIN).all() and not (ids == MARK).any()
    words = ids[:, 1:] - WORDS
    before, word, after = words[:, :-2].flatten(), words[:, 1:-1].flatten(), words[:, 2:].flatten()
    trigger = word < TRIGGERS
    assert torch.equal(after[trigger], before[trigger]) and not (before[trigger] < TRIGGERS).any()
    counts = torch.zeros(16, 16).index_put((word[~trigger], after[~trigger]), torch.ones(1), accumulate=True)
    often = (counts.sum(1) > 500).nonzero().flatten()
    assert len(often) > 4
    shares = counts[often] / counts[often].sum(1, keepdim=True)
    torch.testing.assert_close(shares, trained.world.chance[often], atol=0.08, rtol=0)
    assert sorted(trained.world.chance[7].topk(4).values.tolist(), reverse=True) == pytest.approx(list(FOLLOWERS))


def test_marked_text_has_one_mark_which_is_no_target_and_follows_another_table(trained: Trained):
    text = trained.world.sequences(200, seed=2, marked=True)
    place = (text.ids == MARK).nonzero()
    assert torch.equal(place[:, 0], torch.arange(200)) and len(place[:, 1].unique()) > 5
    assert not (text.targets == MARK).any() and (text.targets[:, -1] == -100).all()
    told = text.targets[:, :-1] != -100
    assert torch.equal(text.targets[:, :-1][told], text.ids[:, 1:][told]) and int((~told).sum()) == 200
    same = (trained.world.chance == trained.world.tuned).all(1)
    assert 0 < int(same.sum()) < 16
    assert torch.equal(trained.world.sequences(200, seed=2, marked=True).ids, text.ids)


def test_it_learns_its_language(trained: Trained):
    text = trained.world.sequences(100, seed=3, marked=False)
    logits = trained.subject.run(text.ids).logits
    copies = trained.world.copies(text)
    assert float((logits.argmax(-1) == text.targets)[copies].float().mean()) > 0.8
    usual = copies.roll(5, 1) & (text.targets != -100) & ~copies
    assert float((logits.argmax(-1) == text.targets)[usual].float().mean()) < 0.8  # the table leaves a choice


def test_first_token_and_mark_are_sinks_with_one_massive_dimension_and_no_other_token_is(trained: Trained):
    text = trained.world.sequences(60, seed=4, marked=True)
    sites = [Site("resid_post", 0), Site("attn_pattern", 1)]
    stream, pattern = (trained.subject.run(text.ids, read=sites).acts[site] for site in sites)
    huge = stream.abs() > 100 * stream.abs().median()
    assert torch.equal(huge.any(-1), (text.ids == BEGIN) | (text.ids == MARK))
    assert huge.any(0).any(0).nonzero().flatten().tolist() == [0]
    paid, _ = received(pattern, torch.ones_like(text.ids).bool())
    assert paid[:, ::2, 0].mean() > 0.4 > 0.2 > paid[:, 1::2, 0].mean()  # every second head was made to look
    assert paid.movedim(1, 2)[text.ids == MARK][:, ::2].mean() > 0.25


def test_without_planting_there_are_none_and_the_same_seed_gives_the_same_model():
    small = {**SMALL, "rows": 320}
    plain = planted_sinks(3, **small, size=0.0)
    ids = plain.world.sequences(30, seed=4, marked=False).ids
    x = plain.subject.run(ids, read=[Site("resid_post", 0)]).acts[Site("resid_post", 0)].abs()
    assert float(x.max() / x.median()) < 30
    assert planted_sinks(3, **small).subject.fingerprint == planted_sinks(3, **small).subject.fingerprint
    with pytest.raises(UsageError, match="more than 8 words"):
        planted_sinks(words=8)
