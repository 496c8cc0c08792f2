"""The one-to-one match is the best there is."""

import itertools

import pytest
import torch

from actscope.scores._parts.assignment import assignment


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (4, 6), (5, 5), (6, 7)])
@pytest.mark.parametrize("ties", [False, True])
def test_the_assignment_is_the_best_of_all(rows: int, columns: int, ties: bool):
    for seed in range(8):
        value = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
        value = value.round() if ties else value
        found = assignment(value)
        every = itertools.permutations(range(columns), rows)
        best = max(sum(float(value[row, column]) for row, column in enumerate(pick)) for pick in every)
        assert len(set(found.tolist())) == rows
        assert float(value.gather(1, found[:, None]).sum()) == pytest.approx(best, abs=1e-5)


def test_hundreds_of_rows_find_the_order_they_were_put_in():
    rows = torch.nn.functional.normalize(torch.randn(300, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    assert torch.equal(assignment(rows @ rows[order].T), order.argsort())
