"""Principal components: the baseline that a sparse dictionary has to beat.

1. One pass: mean and covariance of the rows, in double precision.
2. The n_latents eigenvectors of largest variance, each with its largest coordinate positive.
3. Encode: projections of x - mean, both signs. Decode: their sum, plus the mean.
"""

from collections.abc import Callable, Iterator

import torch

from actscope.core.batch import Batch
from actscope.core.dictionary import Widths
from actscope.core.errors import BadInput, NotFinite
from actscope.dictionaries._parts.dense import Moments, Projection

__all__ = ["PCA"]


class PCA(Projection):
    """The directions of largest variance (Pearson 1901; Hotelling 1933).

    reads: one port of width d. n_latents: components, at most d; None: d. Raises BadInput beyond d, NotFinite for NaN rows.
    """

    def __init__(self, *, reads: Widths, writes: Widths | None = None, n_latents: int | None = None):
        width = sum(reads.values())
        if n_latents is not None and n_latents > width:
            raise BadInput(f"n_latents={n_latents} with width {width}; there are at most {width} principal components.")
        super().__init__(reads=reads, writes=writes, n_latents=n_latents or width, settings={})

    @torch.no_grad()
    def solve(self, batches: Callable[[], Iterator[Batch]]) -> None:
        moments = Moments()
        for batch in batches():
            moments.add(batch.acts[self.read])
        if not torch.isfinite(moments.scatter).all():
            raise NotFinite("The rows hold NaN or infinity; capture them again from a model whose weights are finite.")
        _, vectors = torch.linalg.eigh(moments.scatter)
        components = vectors.T.flip(0)[: self.n_latents]
        largest = components.gather(1, components.abs().argmax(1, keepdim=True))
        self.directions.copy_(components * largest.sign())
        self.mean.copy_(moments.mean)
