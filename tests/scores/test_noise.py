"""Text that loses its structure."""

import torch

from actscope.scores._parts.noise import LEVELS, noisy

IDS = torch.arange(1, 41).expand(2, 40)
HERE = (torch.arange(40) >= 4).expand(2, 40)  # 36 tokens: nine 4-grams


def test_grams_stay_whole_and_come_in_another_order_of_each_row():
    found = noisy(IDS, HERE, 4, IDS[0], torch.Generator().manual_seed(0))
    assert torch.equal(found[:, :4], IDS[:, :4])
    grams = found[:, 4:].view(2, 9, 4)
    assert (grams.diff(dim=2) == 1).all() and torch.equal(grams[..., 0].sort().values, IDS[:, 4::4])
    assert not torch.equal(grams[0], grams[1]) and not (grams[:, 1:, 0] - grams[:, :-1, 0] == 4).all()


def test_text_as_it_is_and_tokens_drawn_at_random():
    draw = torch.Generator().manual_seed(0)
    assert LEVELS[0] == 0 and torch.equal(noisy(IDS, HERE, 0, IDS[0], draw), IDS)
    found = noisy(IDS, HERE, -1, torch.tensor([7, 9]), draw)
    assert set(found[:, 4:].flatten().tolist()) == {7, 9} and torch.equal(found[:, :4], IDS[:, :4])
    nothing = torch.zeros_like(HERE)
    assert all(torch.equal(noisy(IDS, nothing, level, IDS[0], draw), IDS) for level in LEVELS)
