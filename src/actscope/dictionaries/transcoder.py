"""Transcoders: a sparse wide layer in place of an MLP. Dunefsky et al. 2024 (arXiv:2406.11944); with a linear skip path,
Paulo et al. 2025 (arXiv:2501.18823).

    1. Read x before the MLP, predict y after it. Both are scaled by what the first batch measures:  x' = (x - mean) / s
       y' = y / r
    2. Encode: z = select(W x' + b). The selection rule is an axis of its own: `activation` names it.
    3. Decode: y^ = D z + c, and + S x' with skip; S starts at 0 and c at the mean of y', so that the start predicts the mean
       but for the first codes. Atoms have length 1.
    4. Descend on |y' - y^|^2, plus AuxK for dead latents as in topk.

Codes are in units of the site written: z is multiplied by r. Weights between transcoders are read off encoder and atoms.
Letters: n rows, d width read, o width written, m latents.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from actscope.core.batch import Batch
from actscope.core.codes import Codes
from actscope.core.dictionary import Learned, Widths
from actscope.core.errors import BadInput
from actscope.core.site import Port
from actscope.dictionaries._parts import selection, start, unit_norm
from actscope.dictionaries._parts.revival import Revival
from actscope.ops import sparse_decode

__all__ = ["Transcoder"]


class Transcoder(Learned):
    """Sparse latents that compute one site from another (Dunefsky et al. 2024, arXiv:2406.11944; skip: arXiv:2501.18823).

    reads, writes: one port each, such as mlp_in and mlp_out of a layer. activation: the selection rule; k: its active latents.
    skip: add a linear map of what is read. aux_k, aux_weight, dead_after: revival of dead latents as in topk.
    seed: of the first directions. Raises BadInput for several ports, UnknownMethod for no such activation.
    """

    mean: Tensor
    scale_read: Tensor
    scale_written: Tensor

    def __init__(
        self,
        *,
        reads: Widths,
        writes: Widths | None = None,
        n_latents: int,
        activation: str = "topk",
        k: int = 32,
        skip: bool = False,
        aux_k: int | None = None,
        aux_weight: float = 1 / 32,
        dead_after: int | None = None,
        seed: int = 0,
    ):
        settings = {"activation": activation, "k": k, "skip": skip, "aux_k": aux_k, "aux_weight": aux_weight}
        settings |= {"dead_after": dead_after, "seed": seed}
        super().__init__(reads=reads, writes=writes, n_latents=n_latents, settings=settings)
        if writes is None:
            raise BadInput("A transcoder needs writes=: the site it predicts, such as layers.3.mlp_out.")
        d, o = self.reads[self.read], self.writes[self.write]
        self.select = selection.make(activation, n_latents, k=k)
        self.revival = Revival(n_latents, k, o, aux_k=aux_k, weight=aux_weight, dead_after=dead_after)
        self.encoder = nn.Parameter(start.unit_rows(n_latents, d, seed))
        self.bias = nn.Parameter(torch.zeros(n_latents))
        self.decoder = nn.Parameter(start.unit_rows(n_latents, o, seed + 1))
        self.centre = nn.Parameter(torch.zeros(o))
        self.skip = nn.Parameter(torch.zeros(o, d)) if skip else None
        self.register_buffer("mean", torch.zeros(d))
        self.register_buffer("scale_read", torch.ones(()))
        self.register_buffer("scale_written", torch.ones(()))

    @property
    def rate(self) -> float:
        """As in topk a step turns a direction by the same angle whatever its width, and faster: encoder and atoms do not
        start out paired, and the higher rate left less unexplained at every length tried (LOG.md)."""
        return 0.5 / max(self.reads[self.read], self.writes[self.write]) ** 0.5

    @torch.no_grad()
    def begin(self, batch: Batch) -> None:
        x, y = (batch.acts[port].to(self.encoder.dtype) for port in (self.read, self.write))
        self.mean.copy_(x.mean(0))
        self.scale_read.copy_(start.spread(x, self.mean))
        self.scale_written.copy_(start.spread(y, y.mean(0)))
        self.centre.copy_(y.mean(0) / self.scale_written)

    def objective(self, batch: Batch, *, progress: float) -> dict[str, Tensor]:
        """loss: |y' - y^|^2 a coordinate, with AuxK; fvu: the fraction of variance unexplained; dead: a share of latents."""
        x, y = self._scaled(batch.acts[self.read]), batch.acts[self.write] / self.scale_written
        atoms = unit_norm.on_sphere(self.decoder)
        nowhere = torch.zeros_like(self.mean)
        codes = self.select(x, self.encoder, self.bias, nowhere)
        self.revival.note(codes)
        error = y - sparse_decode.fast(codes, atoms) - self.centre
        if self.skip is not None:
            error = error - x @ self.skip.T
        aux = self.revival.loss(x, error, self.encoder, self.bias, nowhere, atoms)
        with torch.no_grad():
            fvu = error.square().sum() / (y - y.mean(0)).square().sum()
        return {"loss": error.square().mean() + aux, "fvu": fvu, "dead": self.revival.dead.float().mean()}

    def after_step(self, progress: float) -> None:
        unit_norm.renormalise(self.decoder)
        self.revival.after_step()

    def preacts(self, x: Mapping[Port, Tensor] | Tensor) -> Float[Tensor, "n m"]:
        return self.scale_written * torch.addmm(self.bias, self._scaled(x), self.encoder.T)

    def encode(self, x: Mapping[Port, Tensor] | Tensor, *, grads: Mapping[Port, Tensor] | None = None) -> Codes:
        codes = self.select(self._scaled(x), self.encoder, self.bias, torch.zeros_like(self.mean))
        codes = self.select.settled(codes)
        return Codes(codes.indptr, codes.index, codes.value * self.scale_written, self.n_latents)

    def decode(self, codes: Codes, x: Mapping[Port, Tensor] | Tensor | None = None) -> dict[Port, Tensor]:
        """Raises BadInput when the skip path is there and `x` is not."""
        y = sparse_decode.fast(codes, self.decoder) + self.scale_written * self.centre
        if self.skip is not None:
            if x is None:
                raise BadInput("This transcoder has a skip path: decode(codes, x) needs the vectors that were encoded.")
            y = y + self.scale_written * (self._scaled(x) @ self.skip.T)
        return {self.write: y}

    @property
    def atoms(self) -> dict[Port, Tensor]:
        return {self.write: self.decoder}

    def _scaled(self, x: Mapping[Port, Tensor] | Tensor) -> Float[Tensor, "n d"]:
        return (self.joined(x).to(self.encoder.dtype) - self.mean) / self.scale_read
