"""Sequences of one length that a small language model is trained on.

Letters: n sequences, t tokens.
"""

import torch
from jaxtyping import Int
from torch import Tensor

from actscope.organisms._model import IGNORED, Rows
from actscope.training.drawn import Drawn


def sampled(ids: Int[Tensor, "n t"], identity: object) -> Drawn[Rows]:
    """A source for the training loop: sequences drawn at random, again and again."""
    targets = torch.cat([ids[:, 1:], torch.full_like(ids[:, :1], IGNORED)], 1)

    def rows(size: int, seed: int) -> Rows:
        chosen = torch.randint(len(ids), (size,), generator=torch.Generator().manual_seed(seed))
        places, numbers = torch.arange(ids.shape[1]), torch.arange(size)[:, None]
        return Rows(ids[chosen], targets[chosen], numbers.expand(size, len(places)), places.expand(size, len(places)))

    return Drawn(rows, identity)
