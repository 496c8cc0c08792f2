"""Sequences of one length that a small language model is trained on.

Letters: n sequences, t tokens.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from actscope.organisms._model import IGNORED, Rows


@dataclass(frozen=True)
class Pool:
    """A source for the training loop: sequences drawn at random, again and again."""

    ids: Int[Tensor, "n t"]
    identity: Mapping[str, object]

    def batches(self, size: int, *, seed: int, start: int) -> Iterator[Rows]:
        targets = torch.cat([self.ids[:, 1:], torch.full_like(self.ids[:, :1], IGNORED)], 1)
        number, shape = start, (size, self.ids.shape[1])
        while True:
            draw = torch.Generator().manual_seed(1_000_003 * seed + number)
            chosen = torch.randint(len(self.ids), (size,), generator=draw)
            places, rows = torch.arange(shape[1]).expand(shape), torch.arange(size)[:, None].expand(shape)
            yield Rows(self.ids[chosen], targets[chosen], rows, places)
            number += 1
