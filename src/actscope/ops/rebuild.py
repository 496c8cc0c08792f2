"""Decode, compare with the target, and say how the error would change with every code: one visit to every active atom.

Letters: n rows, o width written, m latents, k active.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from actscope.ops import _csr, _native, _triton


def fast(
    index: Int[Tensor, "n k"],
    value: Float[Tensor, "n k"],
    atoms: Float[Tensor, "m o"],
    offset: Float[Tensor, " o"],
    target: Float[Tensor, "n o"],
    factor: float,
    error: Float[Tensor, "n o"],
    slope: Float[Tensor, "n k"],
) -> Float[Tensor, ""]:
    """error = codes @ atoms + offset - target; slope = factor * error . atom where a value is not 0.
    Returns |error|^2 in all."""
    n, k = index.shape
    arrays = (index, value, atoms, offset, target, error, slope)
    if atoms.dtype == torch.float32 and _native.wanted(*arrays):
        squares = torch.empty(n, dtype=torch.float64)
        given = (index, value, atoms, offset, target, n, atoms.shape[1], k, factor, error, slope, squares)
        _native.function("rebuild")(*given)
        return squares.sum()
    if atoms.dtype == torch.float32 and k <= _triton.MOST and _triton.wanted(*arrays):
        return _triton.rebuild(index, value, atoms, offset, target, factor, error, slope).sum(dtype=torch.float64)
    ends = torch.arange(0, n * k + 1, k, device=index.device)
    torch.add(_csr.times(ends, index.view(-1), value.view(-1), atoms), offset, out=error)
    error -= target
    given = _csr.products(ends, index.view(-1), error, atoms).view(n, k)
    torch.mul(given * factor, value != 0, out=slope)
    flat = error.view(-1)
    return flat @ flat


def reference(
    index: Int[Tensor, "n k"],
    value: Float[Tensor, "n k"],
    atoms: Float[Tensor, "m o"],
    offset: Float[Tensor, " o"],
    target: Float[Tensor, "n o"],
    factor: float,
    error: Float[Tensor, "n o"],
    slope: Float[Tensor, "n k"],
) -> Float[Tensor, ""]:
    """The same by dense products."""
    dense = value.new_zeros(len(index), len(atoms)).scatter_add_(1, index, value)
    error.copy_(dense @ atoms + offset - target)
    slope.copy_(torch.where(value != 0, factor * (error @ atoms.T).gather(1, index), 0.0))
    return error.square().sum()
