"""Very many documents of mixed length: exactly the right rows in corpus order, and every row of a shuffled pass traced to its
text, with a buffer far smaller than the store. `full` runs the 200,000 that the issue names."""

import hashlib
from itertools import accumulate

import pytest
import torch
from tiny_subject import EMBED, D, TinySubject

from actscope.core.corpus import Document
from actscope.stores._parts import order
from actscope.stores.capture import capture
from actscope.stores.disk import DiskStore
from actscope.stores.mixing import mixing

SIZE = 4096


class Numbered:
    """Documents that begin with their number; most are short, one in ten is longer than the context."""

    def __init__(self, n: int):
        draw = torch.Generator().manual_seed(0)
        short, long = (torch.randint(*span, (n,), generator=draw) for span in ((0, 20), (40, 120)))
        self.lengths = torch.where(torch.rand(n, generator=draw) < 0.1, long, short).tolist()
        self.name, self.fingerprint = f"numbered:{n}", hashlib.sha256(f"numbered {n}".encode()).hexdigest()

    def text(self, number: int) -> str:
        return f"{number} {'abcdefghij'[number % 10] * self.lengths[number]}" if self.lengths[number] else ""

    def documents(self, start: int = 0):
        for number in range(start, len(self.lengths)):
            yield Document(f"n:{number}", self.text(number))


@pytest.mark.parametrize("n", [5_000, pytest.param(200_000, marks=pytest.mark.full)])
def test_every_row_stands_where_its_text_says_and_is_met_once_in_a_shuffled_pass(n, tmp_path, monkeypatch):
    if n < 200_000:
        monkeypatch.setattr(order, "CHUNK", 400)  # as small beside this store as chunks are beside a large one
    corpus, subject = Numbered(n), TinySubject()
    capture(subject, corpus, [EMBED], out=tmp_path / "s")
    texts = [corpus.text(number).encode() for number in range(n)]
    letters = torch.frombuffer(bytearray(b"".join(texts)), dtype=torch.uint8).long() + 1
    counts = torch.tensor([len(text) for text in texts])
    starts = torch.tensor([0, *accumulate(map(len, texts))])[:-1]
    document = torch.repeat_interleave(torch.arange(n), counts)
    position = torch.arange(len(letters)) - starts[document] + 1
    whole = DiskStore(tmp_path / "s")
    ids, where = whole.text
    assert len(whole) == len(letters) and torch.equal(ids, letters)
    assert torch.equal(where, torch.stack([document, position], dim=1)) and len(whole.documents) == n

    buffer = sum(part.bytes for part in whole.parts) // 8
    store, met = DiskStore(tmp_path / "s", mixing=buffer), torch.zeros(len(letters), dtype=torch.long)
    for batch in store.batches([EMBED], SIZE, seed=1):
        row = starts[batch.where[:, 0]] + batch.where[:, 1] - 1
        met += torch.bincount(row, minlength=len(met))
        place = (batch.where[:, 1] - 1) % 31 + 1  # of a piece: the special token and 31 letters
        expected = subject.embedding[letters[row]] + torch.sin(place[:, None] / torch.arange(1, D + 1))
        torch.testing.assert_close(next(iter(batch.acts.values())), expected, rtol=1e-5, atol=1e-5)
    assert (met == 1).all()

    full, bounded = mixing(whole, size=SIZE), mixing(store, size=SIZE)
    assert abs(full.quality - 1) < 0.02 and abs(full.neighbours) < 0.02
    assert 0.5 < bounded.quality < full.quality and bounded.neighbours < 0.05, bounded
