"""A dictionary's columns over chosen rows of a store: one number per row and latent.

Letters: n rows, m latents, c columns asked for.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from actscope.core.batch import Batch
from actscope.core.codes import Codes
from actscope.core.dictionary import Dictionary, Learned
from actscope.core.errors import Interrupted
from actscope.core.progress import stop_requested
from actscope.core.site import Port
from actscope.core.store import Store
from actscope.scores._parts.census import row_batches

_BLOCK = 256  # columns at a time


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
        run = dictionary.encode if isinstance(dictionary, Learned) else dictionary.preacts
        return Columns.made(run, row_batches(store, dictionary.reads, documents))

    @staticmethod
    def made(run: Callable[[Mapping[Port, Tensor]], Codes | Tensor], batches: Iterable[Batch]) -> "Columns":
        """What `run` says of these rows. Codes of which over a quarter are active are held dense."""
        parts, where = [], []
        dense = False
        with torch.no_grad():
            for batch in batches:
                part = run(batch.acts)
                dense = dense or isinstance(part, Codes) and 4 * len(part.index) > len(part) * part.width
                parts.append(part.dense() if dense and isinstance(part, Codes) else part)
                where.append(batch.where)
        places = torch.cat(where)
        if dense or not isinstance(parts[0], Codes):
            whole = torch.cat([part.dense() if isinstance(part, Codes) else part for part in parts]).float()
            return Columns(places, whole.shape[1], dense=whole)
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

    def rows(self, rows: Int[Tensor, " k"]) -> Float[Tensor, "k m"]:
        """All columns at the rows asked for, which must differ."""
        if self.dense is not None:
            return self.dense[rows]
        assert self.start is not None and self.row is not None and self.value is not None
        place = torch.full((len(self.where),), -1)
        place[rows] = torch.arange(len(rows))
        here = place[self.row] >= 0
        column = torch.repeat_interleave(torch.arange(self.width), self.start.diff())[here]
        return torch.zeros(len(rows), self.width).index_put((place[self.row[here]], column), self.value[here])


@dataclass(frozen=True)
class Projected:
    """The same questions put to fixed directions: column i is x @ directions[i]."""

    x: Float[Tensor, "n d"]
    directions: Float[Tensor, "m d"]

    @property
    def width(self) -> int:
        return len(self.directions)

    def take(self, columns: Int[Tensor, " c"]) -> Float[Tensor, "c n"]:
        return self.directions[columns] @ self.x.T


def blocks(columns: Columns | Projected) -> Iterator[tuple[int, Float[Tensor, "c n"]]]:
    """(number of the first column, some columns) until all are given. Raises Interrupted."""
    for start in range(0, columns.width, _BLOCK):
        if stop_requested():
            raise Interrupted("Stopped while scoring; nothing was to be saved. Run the same command again.")
        yield start, columns.take(torch.arange(start, min(start + _BLOCK, columns.width)))
