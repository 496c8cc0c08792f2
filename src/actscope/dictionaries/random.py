"""Random directions: as many as a dictionary has latents, so that what mere number finds is known.

1. n_latents directions, uniform on the sphere, from the seed alone; the mean of the rows from one pass.
2. Encode: projections of x - mean, both signs.
3. Decode: their sum times min(1, d / m), which is x - mean on average over directions where m >= d, plus the mean.
"""

from collections.abc import Callable, Iterator

import torch

from actscope.core.batch import Batch
from actscope.core.dictionary import Widths
from actscope.dictionaries._parts import start
from actscope.dictionaries._parts.dense import Moments, Projection

__all__ = ["Random"]


class Random(Projection):
    """Directions drawn from the seed, whatever the data: a control for searches over many latents."""

    def __init__(self, *, reads: Widths, writes: Widths | None = None, n_latents: int, seed: int = 0):
        super().__init__(reads=reads, writes=writes, n_latents=n_latents, settings={"seed": seed})
        self.factor = min(1.0, self.width / n_latents)
        self.directions.copy_(start.unit_rows(n_latents, self.width, seed))

    @torch.no_grad()
    def solve(self, batches: Callable[[], Iterator[Batch]]) -> None:
        moments = Moments()
        for batch in batches():
            moments.add(batch.acts[self.read])
        self.mean.copy_(moments.mean)
