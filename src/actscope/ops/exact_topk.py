"""The k largest pre-activations above zero of every row, exactly, at the price of a product in bfloat16.

    1. Approximate all by one product: in bfloat16 where the processor multiplies that, else in float32.
    2. Bound each approximation's error by the lengths of what rounding took from the row and from the latent (the formula,
       for any order of summation, stands in kernels.cpp above Screen).
    3. Latents whose bound reaches the k-th largest are computed again, in float64, and rounded once; the k largest of them are
       the answer. Ties go to the lower latent.
A row's answer is therefore a function of that row alone, of no batch, thread or instruction set. The product in float32 differs
from it by its own rounding, and in order only where two pre-activations lie closer than that.
Letters: n rows, d width, m latents, k active.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from actscope.ops import _csr, _native

TILE = 32 * 2**20  # bytes of approximations, and of weights in float64, that are held at a time
FEW = 32  # rows from which a product pays
BLOCK = 32  # latents that share one maximum where there is no kernel


def fast(
    x: Float[Tensor, "n d"], weight: Float[Tensor, "m d"], bias: Float[Tensor, " m"], k: int
) -> tuple[Int[Tensor, "n k"], Float[Tensor, "n k"]]:
    """(index, value) of the k largest of x @ weight.T + bias above zero; where a row has fewer the rest have value 0. A row
    that is not finite gives NaN. For float32 on the CPU."""
    index = torch.zeros(len(x), k, dtype=torch.long)
    value = torch.zeros(len(x), k)
    if len(x) == 0 or k == 0:
        return index, value
    x, weight, bias = x.contiguous(), weight.contiguous(), bias.contiguous()
    dtype = torch.bfloat16 if _native.multiplies_bfloat16() else torch.float32
    (_by_kernel if _native.wanted(x, weight, bias) else _by_torch)(x, weight, bias, dtype, index, value)
    return index, value


def reference(
    x: Float[Tensor, "n d"], weight: Float[Tensor, "m d"], bias: Float[Tensor, " m"], k: int
) -> tuple[Int[Tensor, "n k"], Float[Tensor, "n k"]]:
    """The same from one product in float64."""
    scores = torch.relu((x.double() @ weight.double().T + bias.double()).float())
    value, index = scores.sort(dim=1, descending=True, stable=True)
    return index[:, :k], value[:, :k]


def _by_kernel(x: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype, index: Tensor, value: Tensor) -> None:
    (m, d), k = weight.shape, index.shape[1]
    copy = torch.empty_like(weight, dtype=dtype) if dtype == torch.bfloat16 and len(x) >= FEW else None
    length, lost = torch.empty(m), torch.empty(m)
    _native.function("lengths")(weight, m, d, copy, length, lost)
    screen = _native.function("screen_float32" if dtype == torch.float32 else "screen_bfloat16")
    if len(x) < FEW:
        screen(None, x, weight, bias, length, lost, len(x), m, d, k, index, value)
        return
    rough = weight if copy is None else copy
    offset, size = bias.to(dtype), _rows(m, dtype)
    tile = torch.empty(min(size, len(x)), m, dtype=dtype)
    for part in range(0, len(x), size):
        rows = slice(part, part + size)
        scores = tile[: len(x[rows])]
        torch.addmm(offset, x[rows].to(dtype), rough.T, out=scores)
        screen(scores, x[rows], weight, bias, length, lost, len(scores), m, d, k, index[rows], value[rows])


def _by_torch(x: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype, index: Tensor, value: Tensor) -> None:
    """The kernel's steps with one error for all latents of a row."""
    rough, size = weight.to(dtype), _rows(len(weight), dtype)
    encoder = _Encoder(rough, bias.to(dtype), _longest(weight), _longest(weight - rough), bias.abs().max())
    found = [_candidates(part, encoder, index.shape[1]) for part in x.split(size)]
    row = torch.cat([one + number * size for number, (one, _) in enumerate(found)])
    latent = torch.cat([one for _, one in found])
    scores = (_products(row, latent, x, weight) + bias[latent].double()).float()
    positive = scores > 0
    row, latent, scores = row[positive], latent[positive], scores[positive]
    order = ((row << 32) - scores.view(torch.int32)).argsort(stable=True)  # by row, the largest first; latents ascend already
    row, latent, scores = row[order], latent[order], scores[order]
    starts = torch.zeros(len(x), dtype=torch.long)
    starts[1:] = torch.bincount(row, minlength=len(x)).cumsum(0)[:-1]
    place = torch.arange(len(row)) - starts[row]
    kept = place < index.shape[1]
    index[row[kept], place[kept]], value[row[kept], place[kept]] = latent[kept], scores[kept]
    _fill(index, value)
    value[~torch.isfinite(x).all(1)] = torch.nan


class _Encoder(NamedTuple):
    """The rounded encoder, and what is true of all its latents: |w| and |w - its rounded copy| at most, |b| at most."""

    weight: Float[Tensor, "m d"]
    bias: Float[Tensor, " m"]
    length: Float[Tensor, ""]
    lost: Float[Tensor, ""]
    steepest: Float[Tensor, ""]


def _candidates(x: Tensor, encoder: _Encoder, k: int) -> tuple[Tensor, Tensor]:
    """(row, latent) of what can be among the k largest of its row, by row, latents ascending."""
    near, dtype = x.to(encoder.weight.dtype), encoder.weight.dtype
    scores = torch.addmm(encoder.bias, near, encoder.weight.T)
    kept, gone = _lengths(near.float()), _lengths(x - near)
    unit = (2.0**-7 if dtype == torch.bfloat16 else 2.0**-23) + 2.0**-22
    sums = (x.shape[1] + 8) * 2.0**-23 * kept * (encoder.length + encoder.lost)
    error = 1.00001 * (gone * encoder.length + kept * encoder.lost + sums + unit * encoder.steepest) + 2.0**-100
    blocks = scores.shape[1] // BLOCK
    tops = scores[:, : blocks * BLOCK].view(len(x), BLOCK, blocks).amax(1) if blocks >= k else scores
    best = tops.topk(k, dim=1, sorted=False).values.amin(1).float()
    least = (best - unit * best.abs() - 2 * error) * (1 - unit)
    least = torch.where(least > 0, least, -error * (1 + 2 * unit))  # what is far below zero is no candidate in any case
    floor = torch.nextafter(least.to(scores.dtype), torch.tensor(-torch.inf, dtype=scores.dtype))
    row, latent = (scores >= floor[:, None]).nonzero(as_tuple=True)
    return row, latent


def _products(row: Tensor, latent: Tensor, x: Tensor, weight: Tensor) -> Float[Tensor, " nnz"]:
    """x[row] . weight[latent] in float64, some latents at a time."""
    found = torch.zeros(len(row), dtype=torch.float64)
    wide = max(TILE // (8 * weight.shape[1]), 1)
    x = x.double()
    for start in range(0, len(weight), wide):
        here = ((latent >= start) & (latent < start + wide)).nonzero()[:, 0] if wide < len(weight) else torch.arange(len(row))
        ends = torch.zeros(len(x) + 1, dtype=torch.long)
        ends[1:] = torch.bincount(row[here], minlength=len(x)).cumsum(0)
        part = weight[start : start + wide].double()
        found[here] = _csr.products(ends, latent[here] - start, x, part)
    return found


def _fill(index: Tensor, value: Tensor) -> None:
    """Entries of value 0 name the lowest latents that are not among the others."""
    for row in (value[:, -1] == 0).nonzero()[:, 0].tolist():
        held = int((value[row] > 0).sum())
        taken = set(index[row, :held].tolist())
        spare = [latent for latent in range(index.shape[1]) if latent not in taken]
        index[row, held:] = torch.tensor(spare[: index.shape[1] - held])


def _lengths(x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """The rows' lengths or, by as much as their sums may be off, more."""
    return torch.linalg.vector_norm(x, dim=1) * (1 + x.shape[1] * 2.0**-23)


def _longest(x: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    return _lengths(x).max()


def _rows(m: int, dtype: torch.dtype) -> int:
    """How many rows' approximations are held at a time."""
    return max(TILE // (m * dtype.itemsize), FEW)
