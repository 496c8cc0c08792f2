"""What kernels/ computes, in Triton, for arrays on a GPU. Imported by _triton.py alone, which says what each is given.

One program makes a row, or a latent, from start to end and adds up in float32, in an order that does not change: the same call
gives the same bits. A tile is a few rows of the dense side by WIDE columns; what is gathered is read once.
Letters: n rows, d width read, o width written, m latents, k active a row.
"""

from typing import no_type_check

import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from triton.language import constexpr  # pyright: ignore[reportMissingImports]

NAN: constexpr = constexpr(0x7FFFFFFF)  # of all floats' bits the largest
TINY: constexpr = constexpr(1.1754943508222875e-38)


@triton.jit
@no_type_check
def ordered(x):
    """Bits that are ordered as the numbers above zero are; 0 for the others, above all for NaN."""
    x = x.to(tl.float32)
    return tl.where(x != x, NAN, tl.where(x > 0, x.to(tl.int32, bitcast=True), 0))


@triton.jit
@no_type_check
def topk(scores, index, value, stride, m, offset, k, held, row_k, WIDE: constexpr, KEPT: constexpr, LOW: constexpr):
    """The k largest of the `held` entries of a row and of its m latents from `offset` on: find the k-th largest number bit by
    bit, from 30 down to LOW, then place what is above it, and of its equals the lowest latents. KEPT 0: nothing is held."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, WIDE)
    x = tl.load(scores + row * stride + column, mask=column < m, other=0.0)
    bits = tl.where(column < m, ordered(x), -1)
    if KEPT:
        lane = tl.arange(0, KEPT)
        old = tl.load(value + row * row_k + lane, mask=lane < held, other=0.0)
        old = tl.where(lane < held, ordered(old), -1)
        name = tl.load(index + row * row_k + lane, mask=lane < held, other=0)
    least = 0
    for bit in range(0, 31 - LOW):
        tried = least | (1 << (30 - bit))
        count = tl.sum((bits >= tried).to(tl.int32), 0)
        if KEPT:
            count += tl.sum((old >= tried).to(tl.int32), 0)
        least = tl.where(count >= k, tried, least)
    mark = (bits > least).to(tl.int32) + ((bits == least).to(tl.int32) << 16)  # both counts in one scan: fewer than 2^15 each
    before = tl.cumsum(mark, 0) - mark
    total = tl.sum(mark, 0)
    if KEPT:
        old_mark = (old > least).to(tl.int32) + ((old == least).to(tl.int32) << 16)
        old_before = tl.cumsum(old_mark, 0) - old_mark
        first = tl.sum(old_mark, 0)
        before += first
        total += first
        tl.debug_barrier()  # everything held is read before its place is taken
        at = tl.where(old > least, old_before & 0xFFFF, (total & 0xFFFF) + (old_before >> 16))
        chosen = (old >= least) & (at < k)
        tl.store(index + row * row_k + at, name, mask=chosen)
        tl.store(value + row * row_k + at, old.to(tl.float32, bitcast=True), mask=chosen)
    at = tl.where(bits > least, before & 0xFFFF, (total & 0xFFFF) + (before >> 16))
    chosen = (bits >= least) & (at < k)
    tl.store(index + row * row_k + at, (offset + column).to(tl.int64), mask=chosen)
    tl.store(value + row * row_k + at, bits.to(tl.float32, bitcast=True), mask=chosen)


@triton.jit
@no_type_check
def rebuild(index, value, atoms, offset, target, error, slope, squares, o, k, factor, KEPT: constexpr, WIDE: constexpr):
    """error = codes @ atoms + offset - target; slope = factor * error . atom of every active latent; squares = |error|^2."""
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, KEPT)
    code = tl.load(value + row * k + lane, mask=lane < k, other=0.0)
    active = (lane < k) & (code != 0)
    latent = tl.load(index + row * k + lane, mask=active, other=0)
    change = tl.zeros([KEPT], tl.float32)
    square = tl.zeros([WIDE], tl.float32)
    for start in range(0, o, WIDE):
        column = start + tl.arange(0, WIDE)
        inside = column < o
        tile = tl.load(atoms + latent[:, None] * o + column[None, :], mask=active[:, None] & inside[None, :], other=0.0)
        wanted = tl.load(target + row * o + column, mask=inside, other=0.0)
        left = tl.sum(code[:, None] * tile, 0) + (tl.load(offset + column, mask=inside, other=0.0) - wanted)
        tl.store(error + row * o + column, left, mask=inside)
        change += tl.sum(left[None, :] * tile, 1)
        square += left * left
    tl.store(slope + row * k + lane, tl.where(active, change * factor, 0.0), mask=lane < k)
    tl.store(squares + row, tl.sum(square, 0))


@triton.jit
@no_type_check
def gather(ends, index, weight, dense, atoms, sums, squares, d, factor, MANY: constexpr, WIDE: constexpr):
    """sums[j] = factor * the sum over entries e from ends[j] to ends[j + 1] of weight[e] * dense[index[e]]; where atoms are
    given, less its part along atom j; squares[j] = |sums[j]|^2. Atoms come with squares."""
    row = tl.program_id(0).to(tl.int64)
    begin = tl.load(ends + row)
    end = tl.load(ends + row + 1)
    along = tl.zeros([WIDE], tl.float32)
    square = tl.zeros([WIDE], tl.float32)
    for start in range(0, d, WIDE):
        column = start + tl.arange(0, WIDE)
        inside = column < d
        total = tl.zeros([WIDE], tl.float32)
        for first in range(begin, end, MANY):
            entry = first + tl.arange(0, MANY)
            there = entry < end
            name = tl.load(index + entry, mask=there, other=0)
            scale = tl.load(weight + entry, mask=there, other=0.0).to(tl.float32)
            tile = tl.load(dense + name[:, None] * d + column[None, :], mask=there[:, None] & inside[None, :], other=0.0)
            total += tl.sum(scale[:, None] * tile.to(tl.float32), 0)
        total *= factor
        tl.store(sums + row * d + column, total, mask=inside)
        square += total * total
        if atoms is not None:
            along += total * tl.load(atoms + row * d + column, mask=inside, other=0.0)
    if atoms is not None:
        tl.debug_barrier()  # the sums are there
        part = tl.sum(along, 0)
        square = tl.zeros([WIDE], tl.float32)
        for start in range(0, d, WIDE):
            column = start + tl.arange(0, WIDE)
            inside = column < d
            total = tl.load(sums + row * d + column, mask=inside, other=0.0)
            total -= part * tl.load(atoms + row * d + column, mask=inside, other=0.0)
            tl.store(sums + row * d + column, total, mask=inside)
            square += total * total
    if squares is not None:
        tl.store(squares + row, tl.sum(square, 0))


@triton.jit
@no_type_check
def products(ends, index, left, right, out, d, MANY: constexpr, WIDE: constexpr):
    """out[e] = left[row] . right[index[e]] for every entry e of every row."""
    row = tl.program_id(0).to(tl.int64)
    begin = tl.load(ends + row)
    end = tl.load(ends + row + 1)
    for first in range(begin, end, MANY):
        entry = first + tl.arange(0, MANY)
        there = entry < end
        name = tl.load(index + entry, mask=there, other=0)
        total = tl.zeros([MANY], tl.float32)
        for start in range(0, d, WIDE):
            column = start + tl.arange(0, WIDE)
            inside = column < d
            one = tl.load(left + row * d + column, mask=inside, other=0.0).to(tl.float32)
            tile = tl.load(right + name[:, None] * d + column[None, :], mask=there[:, None] & inside[None, :], other=0.0)
            total += tl.sum(one[None, :] * tile.to(tl.float32), 1)
        tl.store(out + entry, total, mask=there)


@triton.jit
@no_type_check
def adam(
    parameter, grad, first, second, shadow, d, entries, share, step, root, beta1, beta2, eps, UNIT: constexpr, WIDE: constexpr
):
    """One step on a row of d of all the entries; share: 1 / divisor; step, root: with Adam's corrections. UNIT: the row is
    then set back to length 1. shadow: where given, gets the new parameters in its own dtype."""
    row = tl.program_id(0).to(tl.int64)
    square = tl.zeros([WIDE], tl.float32)
    for start in range(0, d, WIDE):
        column = start + tl.arange(0, WIDE)
        at = row * d + column
        inside = (column < d) & (at < entries)
        given = tl.load(grad + at, mask=inside, other=0.0) * share
        one = tl.load(first + at, mask=inside, other=0.0)
        two = tl.load(second + at, mask=inside, other=0.0)
        one += (given - one) * (1 - beta1)
        two = two * beta2 + given * given * (1 - beta2)
        new = tl.load(parameter + at, mask=inside, other=0.0) - step * one / (tl.sqrt(two) / root + eps)
        tl.store(first + at, one, mask=inside)
        tl.store(second + at, two, mask=inside)
        tl.store(parameter + at, new, mask=inside)
        square += new * new
        if shadow is not None:
            tl.store(shadow + at, new, mask=inside)
    if UNIT:
        tl.debug_barrier()  # the new parameters are there
        times = 1 / tl.maximum(tl.sqrt(tl.sum(square, 0)), TINY)
        for start in range(0, d, WIDE):
            column = start + tl.arange(0, WIDE)
            at = row * d + column
            inside = (column < d) & (at < entries)
            new = tl.load(parameter + at, mask=inside, other=0.0) * times
            tl.store(parameter + at, new, mask=inside)
            if shadow is not None:
                tl.store(shadow + at, new, mask=inside)
