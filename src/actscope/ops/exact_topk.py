"""The k largest pre-activations above zero of every row, exactly, at the price of a product in bfloat16.

    1. Approximate all by one product: in bfloat16 where the processor multiplies that, else in float32.
    2. Bound each approximation's error by the lengths of what rounding took from the row and from the latent (the formula,
       for any order of summation, stands in kernels/screen.cpp).
    3. Latents whose bound reaches the k-th largest are computed again, in float64, and rounded once; the k largest of them are
       the answer. Ties go to the lower latent.
A row's answer is therefore a function of that row alone, of no batch, thread or instruction set. The product in float32 differs
from it by its own rounding, and in order only where two pre-activations lie closer than that.
Letters: n rows, d width, m latents, k active.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from actscope.ops import _csr, _native

TILE = 16 * 2**20  # bytes of approximations that are held at a time
SMALL = 8 * 2**20  # the same where there is no kernel and more must be held beside, and half as many of weights in float64
ROWS = 2048  # rows whose candidates are held at a time there
FEW = 32  # rows from which a product pays
BLOCK = 32  # latents that share one maximum where there is no kernel


def fast(
    x: Float[Tensor, "n d"], weight: Float[Tensor, "m d"], bias: Float[Tensor, " m"], k: int
) -> tuple[Int[Tensor, "n k"], Float[Tensor, "n k"]]:
    """(index, value) of the k largest of x @ weight.T + bias above zero; where a row has fewer the rest have value 0. A row
    that is not finite gives NaN, and an encoder that is not NaN in every row. For float32 on the CPU."""
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
    offset, size = bias.to(dtype), _rows(m, dtype, TILE)
    for part in range(0, len(x), size):
        rows = slice(part, part + size)
        scores = _product(x[rows].to(dtype), rough, offset)
        screen(scores, x[rows], weight, bias, length, lost, len(scores), m, d, k, index[rows], value[rows])
        del scores  # before the next is made


def _product(x: Float[Tensor, "n d"], weight: Float[Tensor, "m d"], offset: Float[Tensor, " m"]) -> Float[Tensor, "n m"]:
    """x @ weight.T + offset. oneDNN's own call, where torch has it, adds the offset as it writes; torch.addmm first lays it out
    under every row, some 7% of the time. The screen tells a product that is not what it should be."""
    if x.dtype == torch.bfloat16 and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return torch.ops.mkldnn._linear_pointwise(x, weight, offset, "none", [], "")
    return torch.addmm(offset, x, weight.T)


def _by_torch(x: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype, index: Tensor, value: Tensor) -> None:
    """The kernel's steps."""
    wide = _wide(weight)
    if len(x) < FEW:
        return _directly(x, index, value, weight, bias, wide)
    rough = weight.to(dtype)
    lost = [_lengths(one - near) for one, near in zip(weight.split(wide), rough.split(wide), strict=True)]
    encoder = _Encoder(rough, bias.to(dtype), _lengths(weight), torch.cat(lost), bias.abs())
    for part in zip(x.split(ROWS), index.split(ROWS), value.split(ROWS), strict=True):
        _some(*part, weight, bias, encoder)


def _directly(x: Tensor, index: Tensor, value: Tensor, weight: Tensor, bias: Tensor, wide: int) -> None:
    """All in float64, some latents at a time."""
    parts = [x.double() @ w.double().T + b.double() for w, b in zip(weight.split(wide), bias.split(wide), strict=True)]
    scores = torch.cat(parts, 1).float()
    found, order = torch.relu(scores).sort(dim=1, descending=True, stable=True)
    index.copy_(order[:, : index.shape[1]])
    value.copy_(found[:, : index.shape[1]])
    value[~(torch.isfinite(x).all(1) & _sound(_lengths(weight), bias))] = torch.nan


def _some(x: Tensor, index: Tensor, value: Tensor, weight: Tensor, bias: Tensor, encoder: "_Encoder") -> None:
    k, size = index.shape[1], _rows(len(weight), encoder.weight.dtype, SMALL)
    found = [_candidates(part, encoder, k) for part in x.split(size)]
    row = torch.cat([one + number * size for number, (one, _) in enumerate(found)])
    latent = torch.cat([one for _, one in found])
    scores = (_products(row, latent, x, weight) + bias[latent].double()).float()
    order, place = _ranked(row, scores)
    kept = order[(place < k) & (scores[order] > 0)]
    slot = place[(place < k) & (scores[order] > 0)]
    index[row[kept], slot], value[row[kept], slot] = latent[kept], scores[kept]
    held = (value > 0).sum(1, keepdim=True)  # entries of value 0 name the lowest latents that are not among the others
    taken = torch.zeros(len(x), k + 1, dtype=torch.uint8).scatter_(1, torch.where(value > 0, index, k).clamp(max=k), 1)
    spare = taken[:, :k].argsort(dim=1, stable=True)
    index.copy_(torch.where(value > 0, index, spare.gather(1, (torch.arange(k) - held).clamp(min=0))))
    value[~(torch.isfinite(x).all(1) & _sound(encoder.length, encoder.bias))] = torch.nan


class _Encoder(NamedTuple):
    """The rounded encoder, and of every latent |w|, |w - its rounded copy| and |b|."""

    weight: Float[Tensor, "m d"]
    offset: Float[Tensor, " m"]
    length: Float[Tensor, " m"]
    lost: Float[Tensor, " m"]
    bias: Float[Tensor, " m"]


def _candidates(x: Tensor, encoder: _Encoder, k: int) -> tuple[Tensor, Tensor]:
    """(row, latent) of what can be among the k largest of its row, by row, latents ascending: first by what is true of all
    latents, then each by its own error."""
    dtype, d = encoder.weight.dtype, x.shape[1]
    near = x.to(dtype)
    scores = _product(near, encoder.weight, encoder.offset)
    kept, gone = _lengths(near.float()), _lengths(x - near)
    unit = (2.0**-7 if dtype == torch.bfloat16 else 2.0**-23) + 2.0**-22

    def error(kept: Tensor, gone: Tensor, length: Tensor, lost: Tensor, bias: Tensor) -> Tensor:
        sums = (d + 8) * 2.0**-23 * kept * (length + lost)
        return 1.00001 * (gone * length + kept * lost + sums + unit * bias) + 2.0**-100

    most = error(kept, gone, encoder.length.max(), encoder.lost.max(), encoder.bias.max())
    blocks = scores.shape[1] // BLOCK
    tops = scores[:, : blocks * BLOCK].view(len(x), BLOCK, blocks).amax(1) if blocks >= k else scores
    best = tops.topk(k, dim=1, sorted=False).values.amin(1).float()
    least = (best - unit * best.abs() - 2 * most) * (1 - unit)
    least = torch.where(least > 0, least, -most * (1 + 2 * unit))  # what is far below zero is no candidate in any case
    floor = torch.nextafter(least.to(dtype), torch.tensor(-torch.inf, dtype=dtype))
    row, latent = (scores >= floor[:, None]).nonzero(as_tuple=True)
    score = scores[row, latent].float()
    off = error(kept[row], gone[row], encoder.length[latent], encoder.lost[latent], encoder.bias[latent]) + unit * score.abs()
    low = (score - off).clamp_(min=0)
    order, place = _ranked(row, low)
    last = order[place == k - 1]
    reach = torch.zeros(len(x)).index_put((row[last],), low[last])  # the k-th largest that is sure, 0 where there is none
    can = score + off >= reach[row]
    return row[can], latent[can]


def _ranked(row: Int[Tensor, " e"], value: Float[Tensor, " e"]) -> tuple[Int[Tensor, " e"], Int[Tensor, " e"]]:
    """(an order of the entries by row, and by falling value in it; the place of each in its row). Values below 0 count as 0."""
    order = ((row << 32) - value.clamp(min=0).view(torch.int32)).argsort(stable=True)
    counts = row.bincount()
    return order, torch.arange(len(row)) - (counts.cumsum(0) - counts)[row[order]]


def _products(row: Tensor, latent: Tensor, x: Tensor, weight: Tensor) -> Float[Tensor, " nnz"]:
    """x[row] . weight[latent] in float64, some latents at a time."""
    found = torch.zeros(len(row), dtype=torch.float64)
    wide = _wide(weight)
    x = x.double()
    for start in range(0, len(weight), wide):
        here = ((latent >= start) & (latent < start + wide)).nonzero()[:, 0] if wide < len(weight) else torch.arange(len(row))
        ends = torch.zeros(len(x) + 1, dtype=torch.long)
        ends[1:] = torch.bincount(row[here], minlength=len(x)).cumsum(0)
        found[here] = _csr.products(ends, latent[here] - start, x, weight[start : start + wide].double())
    return found


def _lengths(x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """The rows' lengths or, by as much as their sums may be off, more."""
    return torch.linalg.vector_norm(x, dim=1) * (1 + x.shape[1] * 2.0**-23)


def _wide(weight: Float[Tensor, "m d"]) -> int:
    """How many latents are held in float64 at a time."""
    return max(SMALL // (16 * weight.shape[1]), 1)


def _sound(length: Float[Tensor, " m"], bias: Float[Tensor, " m"]) -> Bool[Tensor, ""]:
    return torch.isfinite(length.max() + bias.abs().max())


def _rows(m: int, dtype: torch.dtype, size: int) -> int:
    """How many rows' approximations are held at a time."""
    return max(size // (m * dtype.itemsize), FEW)
