"""Batches drawn anew as the training loop reads them."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Generic, TypeVar

Batch = TypeVar("Batch")

APART = 1 << 40  # seeds from here on are those of training, where what is judged on is drawn by the same function


class Drawn(Generic[Batch]):
    """Batches without end, each a function of its number and the seed alone.

    draw: (rows, seed) -> a batch. identity: what tells these batches from others, for a run that is taken up again. first: the
    least seed that `draw` gets.
    """

    def __init__(self, draw: Callable[[int, int], Batch], identity: object, *, first: int = 0):
        self._draw, self.identity, self._first = draw, identity, first

    def batches(self, size: int, *, seed: int, start: int = 0) -> Iterator[Batch]:
        """From batch number `start` on, `size` rows each."""
        return (self._draw(size, self._first + 1_000_003 * seed + number) for number in count(start))
