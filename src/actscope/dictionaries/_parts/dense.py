"""Fixed directions with dense signed codes: what the baselines share.

Letters: n rows, d width, m latents.
"""

import abc
from collections.abc import Callable, Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from actscope.core.batch import Batch
from actscope.core.codes import Codes
from actscope.core.dictionary import Solved, Widths
from actscope.core.errors import BadInput
from actscope.core.site import Port
from actscope.ops import sparse_decode


class Projection(Solved):
    """codes = (x - mean) @ directions.T, every one of them, both signs; decode = factor * codes @ directions + mean."""

    mean: Tensor
    directions: Tensor
    factor = 1.0

    def __init__(self, *, reads: Widths, writes: Widths | None, n_latents: int, settings: Mapping[str, object]):
        super().__init__(reads=reads, writes=writes, n_latents=n_latents, settings=settings)
        if self.writes != self.reads:
            raise BadInput("This baseline writes the port it reads; leave writes out.")
        self.width = self.reads[self.read]
        self.register_buffer("mean", torch.zeros(self.width))
        self.register_buffer("directions", torch.zeros(n_latents, self.width))

    @abc.abstractmethod
    def solve(self, batches: Callable[[], Iterator[Batch]]) -> None: ...

    def preacts(self, x: Mapping[Port, Tensor] | Tensor) -> Float[Tensor, "n m"]:
        return (self.joined(x).to(self.mean.dtype) - self.mean) @ self.directions.T

    def encode(self, x: Mapping[Port, Tensor] | Tensor, *, grads: Mapping[Port, Tensor] | None = None) -> Codes:
        return Codes.from_dense(self.preacts(x))

    def decode(self, codes: Codes, x: Mapping[Port, Tensor] | Tensor | None = None) -> dict[Port, Tensor]:
        return {self.write: sparse_decode.fast(codes, self.atoms[self.write]) + self.mean}

    @property
    def atoms(self) -> dict[Port, Tensor]:
        return {self.write: self.factor * self.directions}


class Moments:
    """The mean and covariance of rows seen a batch at a time, in double precision, merged as Chan et al. 1979 do."""

    def __init__(self) -> None:
        self.n = 0
        self.mean = torch.zeros(())
        self.scatter = torch.zeros(())

    def add(self, x: Float[Tensor, "n d"]) -> None:
        x = x.double()
        n, mean = len(x), x.mean(0)
        centred = x - mean
        scatter = centred.T @ centred
        if self.n:
            gap = mean - self.mean
            scatter = self.scatter + scatter + torch.outer(gap, gap) * (self.n * n / (self.n + n))
            mean = self.mean + gap * (n / (self.n + n))
        self.n, self.mean, self.scatter = self.n + n, mean, scatter
