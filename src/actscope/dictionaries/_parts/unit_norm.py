"""Atoms of length 1, so that a latent's value is the length it contributes.

Letters: m latents, d width.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function


def on_sphere(atoms: Float[Tensor, "m d"]) -> Float[Tensor, "m d"]:
    """The atoms themselves, whose gradient loses the part along each atom: a step there would only change its length."""
    return _OnSphere.apply(atoms)  # type: ignore[return-value]


@torch.no_grad()
def renormalise(atoms: Float[Tensor, "m d"]) -> None:
    """Set every atom to length 1, in place."""
    atoms.div_(atoms.norm(dim=1, keepdim=True).clamp(min=torch.finfo(atoms.dtype).tiny))


class _OnSphere(Function):
    @staticmethod
    def forward(ctx: Any, atoms: Tensor) -> Tensor:
        ctx.save_for_backward(atoms)
        return atoms.view_as(atoms)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (atoms,) = ctx.saved_tensors
        return torch.addcmul(grads[0], atoms, (grads[0] * atoms).sum(1, keepdim=True), value=-1)
