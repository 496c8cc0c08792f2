"""A pass that mixes a bounded number of bytes at a time: every row once, bounded, and how far from a full shuffle."""

import importlib

import pytest
import torch
from tiny_subject import OUT, D, TinySubject

from actscope.core.errors import BadInput
from actscope.corpora.texts import texts
from actscope.stores._parts import order
from actscope.stores._parts.order import Part
from actscope.stores.capture import capture
from actscope.stores.disk import DiskStore
from actscope.stores.mixing import mixing

ROW = 4 * D


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """2,000 documents of 1 to 30 letters in some 40 shards."""
    lengths = torch.randint(1, 31, (2000,), generator=torch.Generator().manual_seed(0)).tolist()
    out = tmp_path_factory.mktemp("mixing") / "s"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("actscope.stores.capture.UNIT", 800)
        capture(TinySubject(), texts("abcdefghij"[n % 10] * length for n, length in enumerate(lengths)), [OUT], out=out)
    return out


@pytest.mark.parametrize("rows", [100, 1000, 5000, 10**9])
@pytest.mark.parametrize("chunk", [1, 8, 64])
def test_every_row_comes_once_and_no_more_than_the_buffer_is_mixed(rows, chunk, monkeypatch):
    monkeypatch.setattr(order, "CHUNK", chunk * ROW)
    parts = [Part(n, n * ROW, 0, 1) for n in (700, 1, 0, 650, 812, 333)]
    runs = list(order.order(parts, 5, 0, rows * ROW))
    assert torch.equal(torch.cat(runs).sort().values, torch.arange(2496))
    assert all(len(run) <= rows for run in runs) and len(runs) >= 2496 / rows
    for skip in (0, 1, 99, 1300, 2495):
        assert torch.equal(torch.cat(list(order.order(parts, 5, skip, rows * ROW))), torch.cat(runs)[skip:])
    assert not list(order.order(parts, 5, 2496, rows * ROW))


def test_a_store_that_fits_is_shuffled_whole_in_the_order_it_always_had():
    parts = [Part(3, 12, 0, 1), Part(2, 8, 1, 2)]
    (run,) = order.order(parts, 0, 0, 20)
    assert run.tolist() == [2, 4, 0, 3, 1]  # orders are kept for good: a fit begun before goes on


def test_a_full_shuffle_is_measured_as_one_and_corpus_order_as_none(made):
    store = DiskStore(made)
    full = mixing(store, size=512)
    assert abs(full.quality - 1) < 0.01 and abs(full.neighbours) < 0.02 and 0.7 < full.drift < 1.3

    class Unshuffled(DiskStore):
        def _order(self, seed, skip):
            return super()._order(None, skip)

    none = mixing(Unshuffled(made), size=512)
    assert none.quality < 0.1 and none.neighbours > 0.99 and none.drift > 10


def test_a_larger_buffer_mixes_better_and_chunks_better_than_whole_shards(made, monkeypatch):
    size = sum(part.bytes for part in DiskStore(made).parts)
    found = {}
    for chunk in (16 * ROW, 10**9):  # rows of 1 to 2 documents; whole shards
        monkeypatch.setattr(order, "CHUNK", chunk)
        found[chunk] = [mixing(DiskStore(made, mixing=size // part), size=256).quality for part in (40, 10, 3)]
    few, whole = found[16 * ROW], found[10**9]
    assert few == sorted(few) and few[-1] > 0.9 and all(one > other for one, other in zip(few, whole, strict=True)), found
    assert whole[0] < 0.3, found


def test_what_a_batch_would_have_in_a_full_shuffle_is_counted_right():
    met = importlib.import_module("actscope.stores.mixing")._met
    counts = torch.tensor([1, 2, 50, 47])
    draw = torch.Generator().manual_seed(0)
    document = torch.repeat_interleave(torch.arange(4), counts)
    drawn = [len(document[torch.randperm(100, generator=draw)[:30]].unique()) for _ in range(3000)]
    assert abs(met(counts, 30) - sum(drawn) / 3000) < 0.05


def test_too_little_to_mix_is_said(made):
    with pytest.raises(BadInput, match="3 rows; expected two batches"):
        mixing(capture(TinySubject(), texts(["abc"]), [OUT], context=3, tokens=2))
    with pytest.raises(BadInput, match="mixing=0"):
        DiskStore(made, mixing=0)
