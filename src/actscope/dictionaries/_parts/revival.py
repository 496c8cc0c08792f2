"""AuxK: dead latents learn to model what the living ones leave over. Gao et al. 2024 (arXiv:2406.04093), appendix A.2.

Letters: n rows, d width read, o width written, m latents.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from actscope.core import group
from actscope.core.codes import Codes
from actscope.core.errors import BadInput
from actscope.dictionaries._parts import row_choice
from actscope.ops import sparse_decode


class Revival(nn.Module):
    """n_latents, k (as expected): of the dictionary, and the width it writes. aux_k: dead latents used a row; None: half the
    width, at least k. weight: of the loss; 0: none. dead_after: rows without firing that make a latent dead; None: 1000 m / k.
    """

    idle: Tensor

    def __init__(self, n_latents: int, k: float | int, width: int, *, aux_k: int | None, weight: float, dead_after: int | None):
        super().__init__()
        self.k = max(round(k), width // 2) if aux_k is None else aux_k
        self.dead_after = round(1000 * n_latents / k) if dead_after is None else dead_after
        self.weight = weight
        if self.k < 1 or weight < 0 or self.dead_after < 1:
            raise BadInput(f"aux_k={aux_k}, aux_weight={weight}, dead_after={dead_after}; expected >= 1, >= 0 and >= 1.")
        self.register_buffer("idle", torch.zeros(n_latents, dtype=torch.long))  # rows since each latent fired
        self.fired: Tensor | None = None
        self.rows = 0

    @property
    def dead(self) -> Tensor:
        """Bool[m]."""
        return self.idle > self.dead_after

    @property
    def share(self) -> Float[Tensor, ""]:
        """The share of all latents that is dead."""
        return group.latents().total(self.dead.sum()) / group.latents().total(torch.tensor(len(self.idle)))

    def note(self, codes: Codes) -> None:
        """Remember what fired; `after_step` counts it."""
        self.fired = torch.zeros_like(self.idle).index_add_(0, codes.index, (codes.value.detach() > 0).long()) > 0
        self.rows = len(codes)

    def after_step(self) -> None:
        if self.fired is not None:
            self.count(self.fired, self.rows)
            self.fired = None

    def count(self, fired: Bool[Tensor, " m"], rows: int) -> None:
        """`note` and `after_step` in one, from which latents fired on so many rows."""
        self.idle.add_(group.rows().count(rows)).masked_fill_(group.rows().any(fired), 0)

    def loss(
        self,
        x: Float[Tensor, "n d"],
        error: Float[Tensor, "n o"],
        weight: Float[Tensor, "m d"],
        bias: Float[Tensor, " m"],
        centre: Float[Tensor, " d"],
        atoms: Float[Tensor, "m o"],
    ) -> Float[Tensor, ""]:
        """weight * the share of `error` that the k best dead latents of each row leave. The error and the centre are
        given; encoder rows, biases and atoms of dead latents get the gradient."""
        dead = self.dead.nonzero().flatten()
        if self.weight == 0 or not self.needed(len(dead)):
            return error.new_zeros(())
        return self.lost(x, error.detach(), weight[dead], bias[dead], centre.detach(), atoms[dead])

    def lost(
        self,
        x: Float[Tensor, "n d"],
        error: Float[Tensor, "n o"],
        weight: Float[Tensor, "l d"],
        bias: Float[Tensor, " l"],
        centre: Float[Tensor, " d"],
        atoms: Float[Tensor, "l o"],
    ) -> Float[Tensor, ""]:
        """The same from the rows of the l dead latents alone."""
        rows, latents = group.rows(), group.latents()
        codes = row_choice.best(x, weight, bias, centre, self.k)
        left = error - latents.total(sparse_decode.fast(codes, atoms))
        whole = rows.mean(error.square().mean()).clamp(min=torch.finfo(error.dtype).tiny)
        return self.weight * rows.mean(left.square().mean()) / whole

    def needed(self, dead: int) -> bool:
        """Whether any process that holds latents of this dictionary has a dead one; here they are so many."""
        return int(group.latents().total(torch.tensor(dead))) > 0
