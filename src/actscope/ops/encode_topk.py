"""The k largest positive pre-activations of every row, and their gradients, without a dense gradient.

Letters: n rows, d width, m latents, k active.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function

from actscope.core.codes import Codes
from actscope.ops import _csr, exact_topk, topk

TILE = 8 * 2**20  # bytes of pre-activations that are held at a time: what a cache holds
ROWS = 1024  # of at most so many rows


def fast(
    x: Float[Tensor, "n d"],
    weight: Float[Tensor, "m d"],
    bias: Float[Tensor, " m"],
    k: int,
    centre: Float[Tensor, " d"] | None = None,
) -> Codes:
    """ReLU of the k largest entries of (x - centre) @ weight.T + bias in each row: k entries a row, some of value 0,
    in no particular order. Differentiable in x, weight, bias and centre. In float32 on the CPU as exact_topk gives them."""
    index, value = _Encode.apply(x, weight, bias, centre, k)  # type: ignore[misc]
    indptr = torch.arange(0, len(x) * k + 1, k, device=x.device)
    return Codes(indptr, index, value, len(weight))


def into(
    centred: Float[Tensor, "n d"],
    weight: Float[Tensor, "m d"],
    bias: Float[Tensor, " m"],
    index: Int[Tensor, "n k"],
    value: Float[Tensor, "n k"],
    tile: Float[Tensor, " cells"],
) -> None:
    """The same without gradients, into arrays that are there. The product runs in weight's dtype, some latents at a time;
    tile: an array of that dtype with `cells` numbers."""
    bias, n, m = bias.to(weight.dtype), len(centred), len(weight)
    for first in range(0, n, ROWS):
        rows = slice(first, min(first + ROWS, n))
        x = centred[rows].to(weight.dtype)
        wide = len(tile) // len(x)
        for start in range(0, m, wide):
            part = slice(start, min(start + wide, m))
            scores = tile[: len(x) * (part.stop - start)].view(len(x), part.stop - start)
            torch.addmm(bias[part], x, weight[part].T, out=scores)
            topk.into(scores, index[rows], value[rows], offset=start, last=part.stop == m)


def cells(n: int, m: int, dtype: torch.dtype) -> int:
    """How many numbers `into` wants as its tile."""
    rows = min(n, ROWS)
    return rows * min(m, max(TILE // (rows * dtype.itemsize), 1))


def reference(
    x: Float[Tensor, "n d"],
    weight: Float[Tensor, "m d"],
    bias: Float[Tensor, " m"],
    k: int,
    centre: Float[Tensor, " d"] | None = None,
) -> Codes:
    """The same by torch's own operators."""
    centred = x if centre is None else x - centre
    value, index = torch.relu(centred @ weight.T + bias).topk(k, dim=1)
    indptr = torch.arange(0, len(x) * k + 1, k, device=x.device)
    return Codes(indptr, index.flatten(), value.flatten(), len(weight))


class _Encode(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, centre: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
        centred = x if centre is None else x - centre
        n, dtype = len(centred), torch.result_type(centred, weight)
        if dtype == weight.dtype == bias.dtype == torch.float32 and x.device.type == "cpu":
            index, value = exact_topk.fast(centred, weight, bias, k)
        else:
            index = torch.empty(n, k, dtype=torch.long, device=x.device)
            value = torch.empty(n, k, dtype=dtype, device=x.device)
            into(centred, weight, bias, index, value, weight.new_empty(cells(n, len(weight), weight.dtype)))
        index, value = index.view(-1), value.view(-1)
        ctx.save_for_backward(centred, weight, index, value)
        ctx.mark_non_differentiable(index)
        ctx.set_materialize_grads(False)
        return index, value

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        centred, weight, index, value = ctx.saved_tensors
        if grads[1] is None:
            return None, None, None, None, None
        n, m = len(centred), len(weight)
        slope = torch.where(value > 0, grads[1], 0)
        indptr = torch.arange(0, len(index) + 1, len(index) // n, device=index.device)
        to_x = _csr.times(indptr, index, slope, weight) if ctx.needs_input_grad[0] else None
        ends, row, order = _csr.transposed(indptr, index, m)
        to_weight = _csr.times(ends, row, slope[order], centred) if ctx.needs_input_grad[1] else None
        to_bias = slope.new_zeros(m).index_add_(0, index, slope)
        to_centre = -(to_bias @ weight) if ctx.needs_input_grad[3] else None
        return to_x, to_weight, to_bias if ctx.needs_input_grad[2] else None, to_centre, None
