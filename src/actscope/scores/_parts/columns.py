"""A dictionary's columns over chosen rows of a store: one number per row and latent.

Letters: n rows, m latents, c columns asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from actscope.core.codes import Codes
from actscope.core.dictionary import Dictionary, Learned
from actscope.core.store import Store
from actscope.scores._parts.census import row_batches


@dataclass(frozen=True)
class Columns:
    """What each latent says of each row: its code where the codes were learned, its projection (`preacts`) otherwise.

    A learned dictionary's codes are held sparse, sorted by column; projections are held dense.
    """

    where: Int[Tensor, "n 2"]
    width: int
    dense: Float[Tensor, "n m"] | None = None
    start: Int[Tensor, " columns"] | None = None  # m + 1: where each column's entries begin
    row: Int[Tensor, " nnz"] | None = None
    value: Float[Tensor, " nnz"] | None = None

    @staticmethod
    def of(dictionary: Dictionary, store: Store, documents: Sequence[int]) -> "Columns":
        """Run the dictionary over the rows of `documents`. Memory: 4 n m bytes where it was not learned, else 20 a code."""
        parts, where = [], []
        with torch.no_grad():
            for batch in row_batches(store, dictionary.reads, documents):
                parts.append(
                    dictionary.encode(batch.acts) if isinstance(dictionary, Learned) else dictionary.preacts(batch.acts)
                )
                where.append(batch.where)
        places = torch.cat(where)
        if not isinstance(parts[0], Codes):
            dense = torch.cat(parts).float()
            return Columns(places, dense.shape[1], dense=dense)
        codes = Codes.cat(parts)
        order = torch.argsort(codes.index, stable=True)
        counts = torch.bincount(codes.index, minlength=codes.width)
        start = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return Columns(places, codes.width, None, start, codes.row[order], codes.value[order].float())

    def take(self, columns: Int[Tensor, " c"]) -> Float[Tensor, "c n"]:
        """The columns asked for, each as one contiguous row."""
        if self.dense is not None:
            return self.dense[:, columns].T.contiguous()
        assert self.start is not None and self.row is not None and self.value is not None
        out = torch.zeros(len(columns), len(self.where))
        for line, column in enumerate(columns.tolist()):
            here = slice(int(self.start[column]), int(self.start[column + 1]))
            out[line, self.row[here]] = self.value[here]
        return out
