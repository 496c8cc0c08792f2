"""Rows held in memory as the training loop reads them."""

from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

Rows = TypeVar("Rows", bound=tuple)  # a NamedTuple


class Shuffled(Generic[Rows]):
    """Batches of a NamedTuple of tensors of one length: each pass in an order drawn from its seed, without a short end.

    identity: what tells these rows from others, for a run that is taken up again.
    """

    def __init__(self, rows: Rows, identity: object):
        self.rows, self.identity = rows, identity

    def batches(self, size: int, *, seed: int, start: int = 0) -> Iterator[Rows]:
        """One pass, from batch number `start` on."""
        first: Tensor = self.rows[0]
        for index in torch.randperm(len(first), generator=torch.Generator().manual_seed(seed)).split(size)[start:]:
            if len(index) == min(size, len(first)):
                kind: Any = type(self.rows)
                yield kind(*(value[index] for value in self.rows))
