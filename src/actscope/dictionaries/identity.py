"""The site's own coordinates as latents: neurons, where the site is mlp_post. Nothing is learned."""

from collections.abc import Callable, Iterator

import torch

from actscope.core.batch import Batch
from actscope.core.dictionary import Widths
from actscope.core.errors import BadInput
from actscope.dictionaries._parts.dense import Projection

__all__ = ["Identity"]


class Identity(Projection):
    """Each coordinate is a latent, and its value is the code. n_latents is the width and may be left out."""

    def __init__(self, *, reads: Widths, writes: Widths | None = None, n_latents: int | None = None):
        width = sum(reads.values())
        if n_latents not in (None, width):
            raise BadInput(f"n_latents={n_latents} with width {width}; identity has one latent a coordinate: leave it out.")
        super().__init__(reads=reads, writes=writes, n_latents=width, settings={})
        self.directions.copy_(torch.eye(width))

    def solve(self, batches: Callable[[], Iterator[Batch]]) -> None:
        """Nothing to find."""
