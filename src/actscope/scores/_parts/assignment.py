"""The best one-to-one match of rows with columns (Kuhn 1955, by shortest augmenting paths, a column reduction first as in
Jonker and Volgenant 1987).

Letters: r rows, c columns, r <= c.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def assignment(value: Float[Tensor, "r c"]) -> Int[Tensor, " r"]:
    """The column of every row, no two alike, for which the values add up to most. About r * r * c steps at worst."""
    rows, columns = value.shape
    assert rows <= columns, "every row needs a column of its own"
    cost = -value.detach().cpu().double().numpy()
    of_column = np.zeros(columns)  # prices; with r < c a column nobody wants stays at 0
    if rows == columns:
        of_column = cost.min(axis=0)
    taken = np.full(columns, -1)  # column -> row
    _take_undisputed(cost - of_column, taken)
    of_row = (cost - of_column).min(axis=1)
    for row in sorted(set(range(rows)) - set(taken[taken >= 0].tolist())):
        _augment(row, cost, of_row, of_column, taken)
    found = torch.zeros(rows, dtype=torch.long)
    held = taken >= 0
    found[torch.from_numpy(taken[held])] = torch.from_numpy(held.nonzero()[0])
    return found


def _take_undisputed(reduced: np.ndarray, taken: np.ndarray) -> None:
    """Every row its cheapest column, where that is still free."""
    for row, column in enumerate(reduced.argmin(axis=1)):
        if taken[column] < 0:
            taken[column] = row


def _augment(row: int, cost: np.ndarray, of_row: np.ndarray, of_column: np.ndarray, taken: np.ndarray) -> None:
    """Find `row` a column along the cheapest path of swaps, and move the prices so that no swap is cheaper than none."""
    columns = len(of_column)
    least, before = np.full(columns, np.inf), np.full(columns, -1)  # price of the cheapest path to a column; the one before it
    open_ = np.ones(columns, dtype=bool)
    at, here, length = row, -1, 0.0
    while True:
        dear = length + cost[at] - of_row[at] - of_column
        better = open_ & (dear < least)
        least[better], before[better] = dear[better], here
        here = int(np.where(open_, least, np.inf).argmin())
        length = least[here]
        open_[here] = False
        if taken[here] < 0:
            break
        at = taken[here]
    done = ~open_
    done[here] = False
    held = done.nonzero()[0]
    of_row[row] += length
    of_row[taken[held]] += length - least[held]
    of_column[held] -= length - least[held]
    while here >= 0:
        following = before[here]
        taken[here] = row if following < 0 else taken[following]
        here = following


def matched_cosine(atoms: Float[Tensor, "c d"], truth: Float[Tensor, "r d"]) -> float:
    """The mean cosine of true directions with atoms, one to one, matched for the best sum."""
    cosine = functional.normalize(truth, dim=1) @ functional.normalize(atoms, dim=1).T
    return float(cosine.gather(1, assignment(cosine)[:, None]).mean())
