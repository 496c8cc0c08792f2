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

from typing import Any

from actscope.core.dictionary import Widths
from actscope.dictionaries._parts.autoencoder import Autoencoder
from actscope.dictionaries._parts.fused import FusedTopK, fused_topk
from actscope.dictionaries._parts.select_topk import Select

__all__ = ["TopK"]


class TopK(Autoencoder):
    """A sparse autoencoder with the k largest latents active (Gao et al. 2024, arXiv:2406.04093).

    reads: one port, which is also the one written. n_latents: m. k: active latents a row.
    aux_k: dead latents a row that model the rest; None: half the width, at least k. aux_weight: of that loss; 0 for none.
    dead_after: rows without firing that make a latent dead; None: 1000 m / k, a thousand times what it would wait for its
    turn if all fired equally often. seed: of the first directions.
    Raises BadInput for several ports, for writes that are not the reads, or k beyond n_latents.
    """

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
        super().__init__(
            reads=reads,
            writes=writes,
            n_latents=n_latents,
            select=Select(n_latents, k),
            rule={"k": k},
            aux_k=aux_k,
            aux_weight=aux_weight,
            dead_after=dead_after,
            seed=seed,
        )

    def fused(self, plan: Any) -> FusedTopK | None:
        return fused_topk(self, self.select, plan)
