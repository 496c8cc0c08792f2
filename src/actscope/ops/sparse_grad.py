"""Gradients of the rows of a weight from the active entries alone: the product of sparse codes, transposed, with dense rows.

Letters: n rows, d width, m latents, k active.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from actscope.ops import _csr, _native, _triton


class Groups(NamedTuple):
    """The entries of a [n k] array by the latent they name: latent j's are place[ends[j]:ends[j + 1]], in the order of rows."""

    ends: Int[Tensor, " latents"]  # m + 1
    place: Int[Tensor, " entries"]
    k: int

    @property
    def fired(self) -> Tensor:
        """Bool[m]: latents with an entry."""
        return self.ends.diff() > 0


def group(index: Int[Tensor, "n k"], value: Float[Tensor, "n k"], m: int) -> Groups:
    """Entries with value 0 are left out."""
    entries, k = index.numel(), index.shape[1]
    if value.dtype == torch.float32 and _native.wanted(index, value):
        ends, place = torch.empty(m + 1, dtype=torch.long), torch.empty(entries, dtype=torch.int32)
        _native.function("group")(index, value, entries, m, ends, place)
        return Groups(ends, place, k)
    named = torch.where(value.view(-1) != 0, index.view(-1), m)  # those of value 0 go last
    ordered, place = named.sort(stable=True)
    return Groups(torch.searchsorted(ordered, torch.arange(m + 1, device=ordered.device)), place, k)


def fast(
    groups: Groups,
    weight: Float[Tensor, "n k"],
    rows: Float[Tensor, "n d"],
    factor: float,
    sums: Float[Tensor, "m d"],
    atoms: Float[Tensor, "m d"] | None = None,
) -> Float[Tensor, " m"]:
    """sums[j] = factor * the sum over the entries of latent j of weight * that entry's row; with `atoms`, less its part along
    atom j, which has length 1. Returns |sums[j]|^2."""
    m, d = sums.shape
    if sums.dtype == torch.float32 and groups.place.dtype == torch.int32 and _native.wanted(weight, rows, sums, atoms):
        squares = torch.empty(m, dtype=torch.float64)
        given = (groups.ends, groups.place, weight, rows, atoms, m, d, groups.k, factor, sums, squares)
        _native.function("gather")(*given)
        return squares
    if sums.dtype == torch.float32 and _triton.wanted(groups.ends, groups.place, weight, rows, sums, atoms):
        squares, row = sums.new_empty(m), groups.place // groups.k
        _triton.gather(groups.ends, row, weight.view(-1)[groups.place], rows, sums, factor, atoms, squares)
        return squares.double()
    order = groups.place[: int(groups.ends[-1])].long()
    _csr.times_into(groups.ends, order // groups.k, weight.view(-1)[order] * factor, rows, sums)
    if atoms is not None:
        sums.addcmul_(atoms, (sums * atoms).sum(1, keepdim=True), value=-1)
    return sums.square().sum(1).double()


def reference(
    groups: Groups,
    weight: Float[Tensor, "n k"],
    rows: Float[Tensor, "n d"],
    factor: float,
    sums: Float[Tensor, "m d"],
    atoms: Float[Tensor, "m d"] | None = None,
) -> Float[Tensor, " m"]:
    """The same by a dense product."""
    latent = torch.repeat_interleave(torch.arange(len(sums), device=sums.device), groups.ends.diff())
    order = groups.place[: int(groups.ends[-1])].long()
    dense = weight.new_zeros(len(rows), len(sums))
    dense.index_put_((order // groups.k, latent), weight.view(-1)[order] * factor, accumulate=True)
    sums.copy_(dense.T @ rows)
    if atoms is not None:
        sums -= (sums * atoms).sum(1, keepdim=True) * atoms
    return sums.double().square().sum(1)
