"""What is kept of every latent while codes pass by. Its size does not depend on how many pass.

Two tables have n slots a latent. An entry of one has a key, and the largest keys stay. Of the top it is the value and, among
equal ones, the earlier row; of the sample a hash of row, latent and seed: the largest of uniform keys are a uniform draw,
whatever the order and the pieces.
Letters: n slots, m latents, e entries, c others that fire with one.
"""

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from actscope.core.codes import Codes
from actscope.core.latents import BINS, LOWEST, OCTAVE, Examples
from actscope.ops import keep

MATES = 32  # latents beside it that are noted with a sampled firing: the strongest of its row
ENTRIES = 1 << 20  # taken in at a time
_LATENTS = 1 << 21  # below which latents must be, and rows below 2^31, for keys to differ


class _Table:
    """n slots a latent."""

    def __init__(self, m: int, n: int, *, documents: bool = False):
        self.kept = keep.Kept.none(m, n, documents=documents)
        self.row, self.place = torch.full((m, n), -1), torch.full((m, n), -1)
        self.value = torch.zeros(m, n)

    def take(
        self, latent: Tensor, key: Tensor, row: Tensor, place: Tensor, value: Tensor, most: int = 0
    ) -> tuple[Tensor, Tensor]:
        """(which entries stand, the slot of each among all)."""
        document = None if self.kept.document is None else place >> 32
        slot = keep.fast(self.kept, latent, key, document, most)
        new = (slot >= 0).nonzero()[:, 0]
        at = latent[new] * self.row.shape[1] + slot[new]
        for kept, given in ((self.row, row), (self.place, place), (self.value, value)):
            kept.view(-1).index_copy_(0, at, given.index_select(0, new))
        return new, at

    def examples(self) -> Examples:
        """By falling key."""
        order = self.kept.key.argsort(dim=1, descending=True)
        place = self.place.gather(1, order)
        where = torch.where(place[..., None] < 0, -1, torch.stack([place >> 32, place & 0xFFFFFFFF], 2))
        return Examples(self.row.gather(1, order), where, self.value.gather(1, order))

    def state(self) -> dict[str, Tensor]:
        kept = {name: x for name, x in self.kept._asdict().items() if x is not None}
        return {**kept, "row": self.row, "place": self.place, "value": self.value}


class Tally:
    """m latents of which `top` and `sample` examples are kept. most: of the top's, how many of one document; 0 for all."""

    def __init__(self, m: int, *, top: int, sample: int, most: int, seed: int):
        self.m, self.most, self.seed = m, most, seed
        self.fired = torch.zeros(m, dtype=torch.long)
        self.total = torch.zeros(m, dtype=torch.float64)
        self.histogram = torch.zeros(m, BINS, dtype=torch.int32)
        self.top, self.sample = _Table(m, top, documents=most > 0), _Table(m, sample)
        self.mates = torch.full((m * sample, min(MATES, m)), -1, dtype=torch.int32)

    def state(self) -> dict[str, Tensor]:
        """Everything kept, by name."""
        tables = {f"{name}.{part}": x for name in ("top", "sample") for part, x in getattr(self, name).state().items()}
        return {"fired": self.fired, "total": self.total, "histogram": self.histogram, "mates": self.mates, **tables}

    def load(self, state: Mapping[str, Tensor]) -> None:
        for name, kept in self.state().items():
            kept.copy_(state[name])

    def add(self, codes: Codes, row: Int[Tensor, " r"], where: Int[Tensor, "r 2"]) -> None:
        """Take in the codes of rows that come after all those before."""
        place = (where[:, 0].long() << 32) + where[:, 1].long()
        for part in _pieces(codes):
            first, end = part.start, part.stop
            span = slice(int(codes.indptr[first]), int(codes.indptr[end]))
            some = Codes(codes.indptr[first : end + 1] - span.start, codes.index[span], codes.value[span], codes.width)
            self._add(some, row[part], place[part])

    def _add(self, codes: Codes, rows: Tensor, places: Tensor) -> None:
        fires = codes.value > 0
        at, latent, value = codes.row, codes.index, codes.value.float()
        if not fires.all():
            at, latent, value = at[fires], latent[fires], value[fires]
        row, place, bits = rows[at], places[at], value.view(torch.int32).long()
        self.fired += latent.bincount(minlength=self.m)
        self.total.index_add_(0, latent, value.double())
        bins = ((bits >> 23) * OCTAVE + ((bits >> 20) & (OCTAVE - 1)) - (127 + LOWEST) * OCTAVE).clamp_(0, BINS - 1)
        self.histogram.view(-1).index_add_(0, latent * BINS + bins, torch.ones_like(latent, dtype=torch.int32))
        self.top.take(latent, (bits << 31) + (2**31 - 1 - row), row, place, value, self.most)
        new, slot = self.sample.take(latent, _hashed(row * _LATENTS + latent, self.seed), row, place, value)
        if len(new):
            needed = torch.zeros(len(codes), dtype=torch.bool)
            needed[at[new]] = True
            mates = _strongest(codes, needed.nonzero()[:, 0], self.mates.shape[1])
            self.mates.index_copy_(0, slot, mates.index_select(0, (needed.cumsum(0) - 1)[at[new]]))

    def together(self, p: int) -> tuple[Int[Tensor, "m p"], Float[Tensor, "m p"]]:
        """For each latent the p others with the largest Jaccard index |A and B| / |A or B| of the rows they fire on, |A and B|
        being |A| times the share of A's sample that notes B."""
        n, some, p = self.sample.row.shape[1], max(1, (1 << 22) // self.m), min(p, self.m)
        drawn, fired = (self.sample.row >= 0).sum(1), self.fired.float()
        order = self.m - torch.arange(self.m)  # of equal ones the lower latent comes first
        found, shares = torch.full((self.m, p), -1), torch.zeros(self.m, p)
        for start in range(0, self.m, some):
            own = torch.arange(start, min(start + some, self.m))
            mates = self.mates[start * n : (start + len(own)) * n].view(len(own), -1).long()
            met = torch.zeros(len(own), self.m + 1)  # the first column takes the empty slots
            met = met.scatter_add_(1, mates + 1, torch.ones_like(mates, dtype=torch.float32))[:, 1:]
            met[torch.arange(len(own)), own] = 0
            both = torch.minimum(met * (fired[own] / drawn[own].clamp(min=1))[:, None], fired)
            share = both / (fired[own, None] + fired - both).clamp(min=1)
            latent = ((share.view(torch.int32).long() << 32) + order).topk(p, dim=1).indices
            shares[own] = share.gather(1, latent)
            found[own] = torch.where(shares[own] > 0, latent, -1)
        return found, shares


def _pieces(codes: Codes) -> Iterator[slice]:
    """Runs of rows with at most ENTRIES entries, or one row."""
    first, n = 0, len(codes)
    while first < n:
        end = int(torch.searchsorted(codes.indptr, codes.indptr[first] + ENTRIES, right=True)) - 1
        yield slice(first, first := min(max(end, first + 1), n))


def _strongest(codes: Codes, rows: Int[Tensor, " r"], c: int) -> Int[Tensor, "r c"]:
    """The latents with the largest values of some rows, ascending, -1 where there are fewer."""
    counts = codes.indptr.diff()[rows]
    wide = max(int(counts.max()), 1)
    offset = torch.arange(wide)
    at = (codes.indptr[rows][:, None] + offset).clamp(max=len(codes.index) - 1)
    held = (offset < counts[:, None]) & (codes.value[at] > 0)
    latent = torch.where(held, codes.index[at], -1).int()
    if wide > c:
        value = torch.where(held, codes.value[at], -1.0)
        latent = latent.gather(1, value.sort(dim=1, descending=True, stable=True).indices[:, :c].sort(dim=1).values)
    padded = torch.full((len(rows), c), -1, dtype=torch.int32)
    padded[:, : latent.shape[1]] = latent
    return padded


def _hashed(x: Int[Tensor, " e"], seed: int) -> Int[Tensor, " e"]:
    """63 bits of each number that look random, different for different numbers but for one chance in 2^63: the finalizer of
    SplitMix64 (Steele, Lea and Flood 2014) applied to the seed, and to the number beside it."""
    return _mixed(x + _mixed(torch.tensor(seed))) & (2**63 - 1)


def _mixed(x: Int[Tensor, "*e"]) -> Int[Tensor, "*e"]:
    x = x * -7046029254386353131 + 1
    x = (x ^ (x >> 30 & 0x3FFFFFFFF)) * -4658895280553007687
    x = (x ^ (x >> 27 & 0x1FFFFFFFFF)) * -7723592293110705685
    return x ^ (x >> 31 & 0x1FFFFFFFF)
