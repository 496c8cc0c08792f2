"""The order of one pass over a store: corpus order, or a permutation that is a pure function of (store, seed, buffer).

A store of at most `buffer` bytes is shuffled whole. Of a larger one no more than that is mixed at a time:
1. its rows are cut into chunks of CHUNK bytes that stand together on disk, and the chunks of the whole store are permuted;
2. as many as fill the buffer are taken from the front;
3. the rows of these are permuted with each other.
So a buffer holds rows from all over the store, and each is read in pieces that a disk reads well. `stores.mixing` measures how
far a pass is from a full shuffle.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

BUFFER = 1 << 30
CHUNK = 1 << 16


@dataclass(frozen=True)
class Part:
    """What is known of a part without opening it."""

    rows: int
    bytes: int
    first: int  # its first document
    next: int  # the document after its last
    apart: int = 0  # rows set apart, which are not among `rows`


def order(
    parts: Sequence[Part], seed: int | None, skip: int, buffer: int, *, whole: bool = False
) -> Iterator[Int[Tensor, " n"]]:
    """Row numbers of one pass, without its first `skip`, in long runs: of a part, or of a buffer's worth. whole: parts are
    mixed whole, for readers to whom a row costs what its part costs."""
    starts = torch.tensor([0, *(part.rows for part in parts)]).cumsum(0)
    runs = (
        zip(starts.tolist(), starts[1:].tolist(), strict=False) if seed is None else _mixed(parts, starts, seed, buffer, whole)
    )
    for number, run in enumerate(runs):
        rows = run[1] - run[0] if isinstance(run, tuple) else int(run.rows)
        if skip >= rows:
            skip -= rows
            continue
        if isinstance(run, tuple):
            yield torch.arange(run[0] + skip, run[1])
        else:
            assert seed is not None
            yield run.index()[torch.randperm(rows, generator=generator(seed, number))][skip:]
        skip = 0


@dataclass(frozen=True)
class _Spans:
    """Rows first..first + length - 1 of each."""

    first: Int[Tensor, " s"]
    length: Int[Tensor, " s"]

    @property
    def rows(self) -> int:
        return int(self.length.sum())

    def index(self) -> Int[Tensor, " n"]:
        before = self.length.cumsum(0) - self.length
        return torch.arange(self.rows) + torch.repeat_interleave(self.first - before, self.length)


def _mixed(parts: Sequence[Part], starts: Tensor, seed: int, buffer: int, whole: bool) -> Iterator[_Spans]:
    """What is mixed at a time."""
    size = sum(part.bytes for part in parts)
    rows = starts.diff()
    if size <= buffer:
        every = torch.randperm(len(parts), generator=generator(seed, -1))
        if len(parts):
            yield _Spans(starts[every], rows[every])
        return
    chunk = int(rows.max()) if whole else max(1, CHUNK * int(starts[-1]) // size)
    counts = (rows + chunk - 1) // chunk
    number = torch.arange(int(counts.sum())) - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    first = torch.repeat_interleave(starts[:-1], counts) + number * chunk
    length = (torch.repeat_interleave(starts[1:], counts) - first).clamp(max=chunk)
    together = max(1, buffer * int(starts[-1]) // (size * int(length.max())))
    for some in torch.randperm(len(first), generator=generator(seed, -1)).split(together):
        yield _Spans(first[some], length[some])


def generator(seed: int, number: int) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}:{number}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
