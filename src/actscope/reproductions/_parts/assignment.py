"""The best one-to-one match of rows with columns (Kuhn 1955, by shortest augmenting paths).

Letters: r rows, c columns, r <= c.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def assignment(value: Float[Tensor, "r c"]) -> Int[Tensor, " r"]:
    """The column of every row, no two alike, for which the values add up to most."""
    rows, columns = value.shape
    assert rows <= columns, "every row needs a column of its own"
    cost = (-value).tolist()
    of_row, of_column = [0.0] * (rows + 1), [0.0] * (columns + 1)  # prices; number 0 stands for no row, no column
    taken = [0] * (columns + 1)  # column -> row
    for row in range(1, rows + 1):
        taken[0], here = row, 0
        least, before, done = [math.inf] * (columns + 1), [0] * (columns + 1), [False] * (columns + 1)
        while taken[here]:
            done[here], at, step, following = True, taken[here], math.inf, 0
            for column in range(1, columns + 1):
                if done[column]:
                    continue
                dear = cost[at - 1][column - 1] - of_row[at] - of_column[column]
                if dear < least[column]:
                    least[column], before[column] = dear, here
                if least[column] < step:
                    step, following = least[column], column
            for column in range(columns + 1):
                if done[column]:
                    of_row[taken[column]] += step
                    of_column[column] -= step
                else:
                    least[column] -= step
            here = following
        while here:
            taken[here], here = taken[before[here]], before[here]
    found = torch.zeros(rows, dtype=torch.long)
    for column in range(1, columns + 1):
        if taken[column]:
            found[taken[column] - 1] = column - 1
    return found


def matched_cosine(atoms: Float[Tensor, "c d"], truth: Float[Tensor, "r d"]) -> float:
    """The mean cosine of true directions with atoms, one to one, matched for the best sum."""
    cosine = functional.normalize(truth, dim=1) @ functional.normalize(atoms, dim=1).T
    return float(cosine.gather(1, assignment(cosine)[:, None]).mean())
