"""Rows in memory as a source: each pass is an order of the whole, drawn from its seed, and may be taken up anywhere."""

from typing import NamedTuple

import torch

from actscope.training.shuffled import Shuffled


class Pair(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor


ROWS = Pair(torch.arange(10.0), torch.arange(10) * 2)


def test_a_pass_has_every_row_once_but_for_a_short_end_and_keeps_what_belongs_together():
    batches = list(Shuffled(ROWS, "ten").batches(5, seed=0))
    assert torch.cat([batch.x for batch in batches]).sort().values.tolist() == list(range(10))
    assert all(isinstance(batch, Pair) and torch.equal(batch.x * 2, batch.y.float()) for batch in batches)
    assert [len(batch.x) for batch in Shuffled(ROWS, "ten").batches(4, seed=0)] == [4, 4]
    assert [len(batch.x) for batch in Shuffled(ROWS, "ten").batches(16, seed=0)] == [10]


def test_the_order_is_the_seeds_and_a_pass_goes_on_where_it_stopped():
    source = Shuffled(ROWS, "ten")
    one, same, other = (torch.stack([batch.x for batch in source.batches(2, seed=seed)]) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(torch.stack([batch.x for batch in source.batches(2, seed=1, start=3)]), one[3:])
