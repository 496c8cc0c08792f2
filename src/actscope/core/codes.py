"""Sparse codes of many rows, in compressed row form.

Letters: n rows, m latents, k active.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Codes:
    """Row i's active latents are index[indptr[i]:indptr[i+1]], ascending, with their values."""

    indptr: Int[Tensor, " rows"]  # n + 1
    index: Int[Tensor, " nnz"]
    value: Float[Tensor, " nnz"]
    width: int  # m

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def row(self) -> Int[Tensor, " nnz"]:
        """The row of every entry."""
        return torch.repeat_interleave(torch.arange(len(self), device=self.index.device), self.indptr.diff())

    def dense(self) -> Float[Tensor, "n m"]:
        full = self.value.new_zeros(len(self), self.width)
        return full.index_put((self.row, self.index), self.value)

    def padded(self) -> tuple[Int[Tensor, "n k"], Float[Tensor, "n k"]]:
        """(index, value), each row filled up to the longest with index 0 and value 0."""
        counts = self.indptr.diff()
        k = int(counts.max()) if len(self) else 0
        slot = torch.arange(len(self.index), device=self.index.device) - self.indptr[self.row]
        index = self.index.new_zeros(len(self), k).index_put((self.row, slot), self.index)
        return index, self.value.new_zeros(len(self), k).index_put((self.row, slot), self.value)

    def column(self, latent: int) -> Float[Tensor, " n"]:
        """One latent's value on every row."""
        here = self.index == latent
        return self.value.new_zeros(len(self)).index_put((self.row[here],), self.value[here])

    def without(self, latent: int) -> "Codes":
        """These codes with one latent set to zero."""
        return Codes(self.indptr, self.index, torch.where(self.index == latent, 0.0, self.value), self.width)

    @staticmethod
    def from_dense(dense: Float[Tensor, "n m"]) -> "Codes":
        """The non-zero entries of a dense matrix."""
        row, index = dense.nonzero(as_tuple=True)
        counts = torch.bincount(row, minlength=len(dense))
        indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return Codes(indptr, index, dense[row, index], dense.shape[1])

    @staticmethod
    def from_padded(index: Int[Tensor, "n k"], value: Float[Tensor, "n k"], width: int) -> "Codes":
        """From k candidates a row; entries with value 0 are left out. The indices of a row must differ."""
        order = index.argsort(dim=1)
        index, value = index.gather(1, order), value.gather(1, order)
        kept = value != 0
        counts = kept.sum(1)
        return Codes(torch.cat([counts.new_zeros(1), counts.cumsum(0)]), index[kept], value[kept], width)

    @staticmethod
    def cat(parts: "list[Codes]") -> "Codes":
        ends = torch.tensor([0, *(len(part.index) for part in parts)]).cumsum(0)
        indptr = [part.indptr[1:] + start for part, start in zip(parts, ends.tolist(), strict=False)]
        return Codes(
            torch.cat([parts[0].indptr[:1], *indptr]),
            torch.cat([part.index for part in parts]),
            torch.cat([part.value for part in parts]),
            parts[0].width,
        )
