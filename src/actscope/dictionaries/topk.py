"""TopK sparse autoencoders. Gao et al. 2024, "Scaling and evaluating sparse autoencoders" (arXiv:2406.04093).

    1. Centre and scale: the geometric median of the first batch, and the root mean square about it, so that neither the
       learning rate nor the loss depends on the site's size.                                              x' = x / s
    2. Encode: the k largest of W (x' - c) + b, those above zero.                                 z = TopK(W (x' - c) + b)
    3. Decode: atoms of length 1, started as the encoder's transpose.                                    x^ = D z + c
    4. Descend on |x' - x^|^2, plus AuxK: the k_aux best dead latents model what is left of x' with weight 1/32.
    5. After every step the atoms are set back to length 1, their gradients having lost the part along them.

Codes are in units of the site: z is multiplied by s, so that a latent's value is the length it adds.
Letters: n rows, d width, m latents, k active.
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
from actscope.dictionaries._parts import start, unit_norm
from actscope.dictionaries._parts.revival import Revival
from actscope.dictionaries._parts.select_topk import Select
from actscope.ops import sparse_decode

__all__ = ["TopK"]


class TopK(Learned):
    """A sparse autoencoder with the k largest latents active (Gao et al. 2024, arXiv:2406.04093).

    reads: one port, which is also the one written. n_latents: m. k: active latents a row.
    aux_k: dead latents a row that model the rest; None: half the width, at least k. aux_weight: of that loss; 0 for none.
    dead_after: rows without firing that make a latent dead; None: 1000 m / k, a thousand times what it would wait for its
    turn if all fired equally often. seed: of the first directions.
    Raises BadInput for several ports, for writes that are not the reads, or k beyond n_latents.
    """

    scale: Tensor

    def __init__(
        self,
        *,
        reads: Widths,
        writes: Widths | None = None,
        n_latents: int,
        k: int = 32,
        aux_k: int | None = None,
        aux_weight: float = 1 / 32,
        dead_after: int | None = None,
        seed: int = 0,
    ):
        settings = {"k": k, "aux_k": aux_k, "aux_weight": aux_weight, "dead_after": dead_after, "seed": seed}
        super().__init__(reads=reads, writes=writes, n_latents=n_latents, settings=settings)
        width = self.reads[self.read]
        if self.writes != self.reads:
            raise BadInput("topk writes the port it reads; for another, use the transcoder.")
        self.select = Select(n_latents, k)
        self.revival = Revival(n_latents, k, width, aux_k=aux_k, weight=aux_weight, dead_after=dead_after)
        self.decoder = nn.Parameter(start.unit_rows(n_latents, width, seed))
        self.encoder = nn.Parameter(self.decoder.detach().clone())
        self.bias = nn.Parameter(torch.zeros(n_latents))
        self.centre = nn.Parameter(torch.zeros(width))
        self.register_buffer("scale", torch.ones(()))

    @property
    def rate(self) -> float:
        """A step of Adam moves every coordinate alike: this turns a direction by the same angle whatever its width."""
        return 0.08 / self.reads[self.read] ** 0.5

    @torch.no_grad()
    def begin(self, batch: Batch) -> None:
        x = batch.acts[self.read].to(self.encoder.dtype)
        median = start.geometric_median(x)
        self.scale.copy_(start.spread(x, median))
        self.centre.copy_(median / self.scale)

    def objective(self, batch: Batch, *, progress: float) -> dict[str, Tensor]:
        """loss: |x' - x^|^2 a coordinate, with AuxK; fvu: the fraction of variance unexplained; dead: a share of latents."""
        x = batch.acts[self.read] / self.scale
        atoms = unit_norm.on_sphere(self.decoder)
        codes = self.select(x, self.encoder, self.bias, self.centre)
        self.revival.note(codes)
        error = x - sparse_decode.fast(codes, atoms) - self.centre
        aux = self.revival.loss(x, error, self.encoder, self.bias, self.centre, atoms)
        with torch.no_grad():
            fvu = error.square().sum() / (x - x.mean(0)).square().sum()
        loss = error.square().mean() + aux
        return {"loss": loss, "fvu": fvu, "dead": self.revival.dead.float().mean()}

    def after_step(self, progress: float) -> None:
        unit_norm.renormalise(self.decoder)
        self.revival.after_step()

    def preacts(self, x: Mapping[Port, Tensor] | Tensor) -> Float[Tensor, "n m"]:
        return self.scale * torch.addmm(self.bias, self._scaled(x) - self.centre, self.encoder.T)

    def encode(self, x: Mapping[Port, Tensor] | Tensor, *, grads: Mapping[Port, Tensor] | None = None) -> Codes:
        codes = self.select.settled(self.select(self._scaled(x), self.encoder, self.bias, self.centre))
        return Codes(codes.indptr, codes.index, codes.value * self.scale, self.n_latents)

    def decode(self, codes: Codes, x: Mapping[Port, Tensor] | Tensor | None = None) -> dict[Port, Tensor]:
        return {self.write: sparse_decode.fast(codes, self.decoder) + self.scale * self.centre}

    @property
    def atoms(self) -> dict[Port, Tensor]:
        return {self.write: self.decoder}

    def _scaled(self, x: Mapping[Port, Tensor] | Tensor) -> Float[Tensor, "n d"]:
        return self.joined(x).to(self.encoder.dtype) / self.scale
