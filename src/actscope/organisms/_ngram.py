"""Interpolated Kneser-Ney n-gram models with one discount an order.

Kneser and Ney 1995; Chen and Goodman 1999. P_n(w | h) = max(c(h w) - D_n, 0) / c(h .) + D_n N(h .) / c(h .) P_{n-1}(w | h'),
where N(h .) counts the different words after h, h' drops h's first word, and for every order below the highest c(h w) is the
number of different words seen before (h w). The last order falls back on the uniform distribution.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

Key = np.ndarray


class KneserNey:
    """A model of sequences of ids below `vocabulary`; the first id of each sequence is given, not predicted.

    Discounts are D = n1 / (n1 + 2 n2), from how many n-grams are seen once and twice. Grams are packed into 64 bits, so
    `order` times the bits of an id may not pass 63.
    """

    def __init__(self, sequences: Iterable[Sequence[int]], *, vocabulary: int, order: int = 5):
        self.vocabulary, self.order = vocabulary, order
        self.bits = max(1, (vocabulary - 1).bit_length())
        assert order * self.bits <= 63, "an n-gram must fit 64 bits"
        kept = [np.asarray(sequence, np.int64) for sequence in sequences]
        tokens = np.concatenate(kept)
        within = np.concatenate([np.arange(len(sequence)) for sequence in kept])  # place in its own sequence
        self.grams: list[tuple[Key, np.ndarray]] = [None] * (order + 1)  # type: ignore[list-item]  # sorted keys, counts
        self.after: list[tuple[Key, np.ndarray, np.ndarray]] = [None] * (order + 1)  # type: ignore[list-item]
        self.discount = [0.0] * (order + 1)
        above: Key | None = None
        for length in range(order, 0, -1):
            counted, counts = self._count(tokens, within, length, above)
            above = self._all(tokens, within, length)
            self.grams[length] = (counted, counts)
            once, twice = int((counts == 1).sum()), int((counts == 2).sum())
            self.discount[length] = once / (once + 2 * twice) if once else 0.5
            contexts, first = np.unique(counted >> self.bits, return_index=True)
            self.after[length] = (contexts, np.add.reduceat(counts, first), np.diff([*first, len(counted)]))

    def log2(self, sequence: Sequence[int]) -> Float[ndarray, " n"]:
        """log2 P of each id after the first."""
        tokens = np.asarray(sequence, np.int64)
        place = np.arange(1, len(tokens))
        chance = np.full(len(place), 1.0 / self.vocabulary)
        for length in range(1, self.order + 1):
            usable = place >= length - 1
            keys = self._keys(tokens, place[usable], length)
            contexts, total, kinds = self.after[length]
            number, found = _find(contexts, keys >> self.bits)
            gram, seen = _find(self.grams[length][0], keys)
            counts = np.where(seen, self.grams[length][1][gram], 0)
            discount = self.discount[length]
            lower = chance[usable]
            kept = np.maximum(counts - discount, 0) / total[number] + discount * kinds[number] / total[number] * lower
            chance[usable] = np.where(found, kept, lower)
        return np.log2(chance)

    def _keys(self, tokens: np.ndarray, last: np.ndarray, length: int) -> Key:
        """The packed n-gram that ends at each place of `last`."""
        keys = np.zeros(len(last), np.int64)
        for back in range(length - 1, -1, -1):
            keys = keys << self.bits | tokens[last - back]
        return keys

    def _all(self, tokens: np.ndarray, within: np.ndarray, length: int) -> Key:
        """Every different n-gram whose last id is predicted."""
        return np.unique(self._keys(tokens, np.flatnonzero(within >= max(length - 1, 1)), length))

    def _count(self, tokens: np.ndarray, within: np.ndarray, length: int, above: Key | None) -> tuple[Key, np.ndarray]:
        """Counts at the highest order; below it, how many different ids stand before. An n-gram that begins a sequence has
        nothing before it: there its own count stands."""
        if above is None:
            return np.unique(self._keys(tokens, np.flatnonzero(within >= max(length - 1, 1)), length), return_counts=True)
        keys, counts = np.unique(above & ((1 << length * self.bits) - 1), return_counts=True)
        if length == 1:
            return keys, counts
        begins = np.unique(self._keys(tokens, np.flatnonzero(within == length - 1), length), return_counts=True)
        both = np.concatenate([keys, begins[0]])
        merged, inverse = np.unique(both, return_inverse=True)
        return merged, np.bincount(inverse, np.concatenate([counts, begins[1]])).astype(np.int64)


def _find(sorted_keys: Key, wanted: Key) -> tuple[np.ndarray, np.ndarray]:
    """(index of each wanted key or a neighbour's, whether it is there)."""
    index = np.minimum(np.searchsorted(sorted_keys, wanted), len(sorted_keys) - 1)
    return index, sorted_keys[index] == wanted
