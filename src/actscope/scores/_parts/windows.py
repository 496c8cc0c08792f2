"""Stretches of text around rows, inside the sequence that the model read.

Letters: n rows, w windows, t tokens of a window.
"""

import torch
from jaxtyping import Int
from torch import Tensor

from actscope.core.text import TokenText


def ends(text: TokenText) -> Int[Tensor, " n"]:
    """For each row, the number of the last row of its sequence."""
    _, place, counts = text.start.unique_consecutive(return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - 1)[place]


def around(rows: Int[Tensor, " w"], text: TokenText, size: int, *, seed: int) -> Int[Tensor, "w t"]:
    """For each row the rows of a window of `size` that holds it at a random place; -1 behind the end of a sequence that is
    shorter than the window."""
    first, last = text.start[rows], ends(text)[rows]
    chance = torch.rand(len(rows), generator=torch.Generator().manual_seed(seed))
    begin = rows - (chance * size).long()
    begin = torch.maximum(torch.minimum(begin, last - size + 1), first)
    window = begin[:, None] + torch.arange(size)
    return torch.where(window <= last[:, None], window, -1)


def before(rows: Int[Tensor, " w"], text: TokenText, size: int) -> list[str]:
    """For each row the text of up to `size` tokens that end with it."""
    begin = torch.maximum(text.start[rows], rows - size + 1)
    ids, pieces = text.ids.tolist(), text.vocabulary
    return [
        "".join(pieces[token] for token in ids[low : row + 1]) for low, row in zip(begin.tolist(), rows.tolist(), strict=True)
    ]
