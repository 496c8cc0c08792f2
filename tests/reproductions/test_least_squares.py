"""Partial least squares against another's, and against ordinary least squares where it must be that."""

import torch
from sklearn.cross_decomposition import PLSRegression

from actscope.reproductions._parts.least_squares import partial


def test_it_is_partial_least_squares_for_every_number_of_components():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(80, 12, generator=draw) * torch.logspace(-1, 1, 12)
    x[:, 3] = 5.0  # a column that does not vary
    y = x[:, 0] - 0.1 * x[:, 9] + torch.randn(80, generator=draw)
    found = partial(x, y, 6)
    new, true = torch.randn(40, 12, generator=draw), torch.randn(40, generator=draw)
    for number, r2 in enumerate(found.r2(new, true).tolist(), 1):
        other = PLSRegression(number).fit(x.double().numpy(), y.double().numpy())
        torch.testing.assert_close(found.weight[number - 1], torch.tensor(other.coef_[0]), rtol=1e-6, atol=1e-9)
        assert abs(r2 - other.score(new.double().numpy(), true.double().numpy())) < 1e-6


def test_with_all_components_it_is_least_squares_and_it_ends_where_nothing_is_left():
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(50, 4, generator=draw).double(), torch.randn(50, generator=draw).double()
    whole = torch.linalg.lstsq(x - x.mean(0), (y - y.mean())[:, None]).solution[:, 0]
    torch.testing.assert_close(partial(x, y, 4).weight[-1], whole)
    assert len(partial(x, 2 * x[:, 0], 9).weight) <= 4 and float(partial(x, torch.ones(50), 3).weight.abs().max()) == 0
