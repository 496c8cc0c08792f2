"""The k largest positive pre-activations of a product in bfloat16, found by way of one in int8.

A processor multiplies int8 twice as fast as bfloat16, and four times as fast as float32. So the product runs in int8, and the
latents that can be among the k largest by it are computed from the bfloat16 numbers. A row of which they cannot be told
(rounding to int8 loses too much where a few coordinates are immense, or hardly anything is above zero) goes through the product
in bfloat16 instead.
Letters: n rows, d width, m latents, k active.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from actscope.ops import _native, encode_topk

ROWS, WIDE = 512, 4096  # rows and latents of a tile of sums, 8 MiB
ROOM = 4  # latents for each of the k that a row may keep until they are computed
SPARSE = 16  # at least so many latents for each of the k, or nothing is gained


class Coarse(NamedTuple):
    """Rows in int8, times a step each: rows[i] * step[i] is about the row."""

    rows: Int[Tensor, "n d"]
    step: Float[Tensor, " n"]
    length: Float[Tensor, " n"]  # of the row itself

    @staticmethod
    def of(rows: Float[Tensor, "n d"]) -> "Coarse":
        """Of rows in bfloat16."""
        made = Coarse(torch.empty(rows.shape, dtype=torch.int8), torch.empty(len(rows)), torch.empty(len(rows)))
        made.take(rows)
        return made

    def take(self, rows: Float[Tensor, "n d"]) -> None:
        """These in place of those before."""
        _native.function("quantise")(rows, *rows.shape, *self)


def pays(weight: Float[Tensor, "m d"], k: int) -> bool:
    """Whether `into` can run here and is the faster way: bfloat16 weights on a CPU that multiplies int8, kernels, many latents,
    and more than one coordinate, of which torch 2.13's int8 product is wrong."""
    fits = weight.dtype == torch.bfloat16 and len(weight) >= SPARSE * k and weight.shape[1] > 1
    return fits and _native.wanted(weight) and _native.multiplies_int8()


def into(
    centred: Float[Tensor, "n d"],
    weight: Float[Tensor, "m d"],
    coarse: Coarse,
    bias: Float[Tensor, " m"],
    index: Int[Tensor, "n k"],
    value: Float[Tensor, "n k"],
    tile: Int[Tensor, " cells"],
) -> None:
    """`encode_topk.into` for bfloat16 weights, `coarse` their copy; values are float32 sums. tile: `cells` numbers, int32."""
    doubtful = _decided(centred, weight, coarse, bias, index, value, tile).nonzero()[:, 0]
    if len(doubtful):
        x, chosen, found = centred[doubtful], index[doubtful], value[doubtful]
        room = weight.new_empty(encode_topk.cells(len(x), len(weight), weight.dtype))
        encode_topk.into(x, weight, bias, chosen, found, room)
        index[doubtful], value[doubtful] = chosen, found


def _decided(
    centred: Tensor, weight: Tensor, coarse: Coarse, bias: Tensor, index: Tensor, value: Tensor, tile: Tensor
) -> Bool[Tensor, " n"]:
    """Fills index and value, and says for which rows int8 could not decide. Where those are many in the first tile of rows, all
    that follow count as such."""
    n, m, k = len(centred), len(weight), index.shape[1]
    doubtful, room = torch.ones(n, dtype=torch.bool), ROOM * k
    among, near = torch.empty(min(n, ROWS), room, dtype=torch.long), torch.empty(min(n, ROWS), room)
    for first in range(0, n, ROWS):
        part = slice(first, min(first + ROWS, n))
        x = centred[part].to(torch.bfloat16)
        rows, count = Coarse.of(x), torch.zeros(len(x), dtype=torch.long)
        for start in range(0, m, WIDE):
            wide = min(WIDE, m - start)
            sums = tile[: len(x) * wide].view(len(x), wide)
            torch._int_mm(rows.rows, coarse.rows[start : start + wide].T, out=sums)  # pyright: ignore[reportPrivateImportUsage]
            _native.function("sieve")(
                sums,
                rows.step,
                rows.length,
                coarse.step,
                coarse.length,
                bias,
                len(x),
                m,
                wide,
                start,
                k,
                room,
                among,
                near,
                count,
            )
        _native.function("rescore")(
            among, near, count, x, rows.step, rows.length, weight, coarse.step, coarse.length, bias,
            len(x), m, x.shape[1], k, room, index[part], value[part], doubtful[part],
        )  # fmt: skip
        if first == 0 and doubtful[part].float().mean() > 0.25:
            break
    return doubtful


def cells(n: int, m: int) -> int:
    """How many numbers `into` wants as its tile."""
    return min(n, ROWS) * min(m, WIDE)


def reference(
    centred: Float[Tensor, "n d"], weight: Float[Tensor, "m d"], bias: Float[Tensor, " m"], k: int
) -> tuple[Int[Tensor, "n k"], Float[Tensor, "n k"]]:
    """(index, value) by torch's own operators: bfloat16 numbers, float32 sums."""
    scores = torch.addmm(bias, centred.to(torch.bfloat16).float(), weight.float().T)
    value, index = torch.relu(scores).topk(k, dim=1)
    return index, value
