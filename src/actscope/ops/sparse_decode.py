"""codes @ atoms for sparse codes, and its gradients, in time that grows with the active latents only.

Letters: n rows, m latents, d width, nnz active entries in all.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from actscope.core.codes import Codes
from actscope.ops import _csr


def fast(codes: Codes, atoms: Float[Tensor, "m d"]) -> Float[Tensor, "n d"]:
    """The sum of each row's active atoms, weighted by their values. Differentiable in values and atoms."""
    return _Decode.apply(codes.indptr, codes.index, codes.value, atoms)  # type: ignore[return-value]


def reference(codes: Codes, atoms: Float[Tensor, "m d"]) -> Float[Tensor, "n d"]:
    """The same by a dense product."""
    return codes.dense() @ atoms


class _Decode(Function):
    @staticmethod
    def forward(ctx: Any, indptr: Tensor, index: Tensor, value: Tensor, atoms: Tensor) -> Tensor:
        ctx.save_for_backward(indptr, index, value, atoms)
        return _csr.times(indptr, index, value, atoms)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None, Tensor | None, Tensor | None]:
        indptr, index, value, atoms = ctx.saved_tensors
        (grad,) = grads
        to_value = to_atoms = None
        if ctx.needs_input_grad[2]:
            to_value = _csr.products(indptr, index, grad.contiguous(), atoms)
        if ctx.needs_input_grad[3]:
            ends, row, order = _csr.transposed(indptr, index, len(atoms))
            to_atoms = _csr.times(ends, row, value[order], grad.contiguous())
        return None, None, to_value, to_atoms
