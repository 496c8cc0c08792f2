"""Every selection on the same planted rows, each against TopK with as many active latents."""

import pytest
import torch
from tests.dictionaries._planted import fvu, likeness, planted
from tests.training._toys import PORT, Rows

from actscope.core import methods
from actscope.training.fit import fit
from actscope.training.plan import Plan

D, M, ROWS = 48, 192, 100_000
SETTINGS = {  # each near 4 to 8 active latents a row, of rows with 4 causes
    "batch_topk": {"k": 5},
    "jumprelu": {"k": 5},
    "gated": {"l1": 0.5},
    "matryoshka": {"k": 5},
    "relu_l1": {"l1": 0.4},
}
pytestmark = pytest.mark.full  # eleven fits
BETTER = {"batch_topk", "jumprelu"}  # whose papers claim less unexplained than TopK, active for active


@pytest.fixture(scope="module")
def table() -> dict[str, tuple[float, float, float, float]]:
    """Method -> (active latents a row, FVU, likeness to the truth, FVU of TopK with as many active)."""
    x, directions = planted(20_000, D, 96, 4)

    @torch.no_grad()
    def measured(name: str, **settings) -> tuple[float, float, float]:
        made = methods.find("dictionaries", name)(reads={PORT: D}, n_latents=M, **settings)
        made = fit(made, Rows({PORT: x}), Plan(rows=ROWS, batch=250))
        codes = made.encode(x)
        left = fvu(made.decode(codes)[PORT], x)
        return len(codes.index) / len(x), left, float(likeness(made.atoms[PORT], directions).mean())

    rivals = {k: measured("topk", k=k) for k in (4, 5, 6, 8)}

    def rival(active: float) -> float:
        """TopK's FVU at this many active latents a row, between the nearest two that were fitted."""
        points = sorted((many, left) for many, left, _ in rivals.values())
        for (few, high), (many, low) in zip(points, points[1:], strict=False):
            if active <= many:
                return high + (low - high) * max(0.0, active - few) / (many - few)
        return points[-1][1]

    found = {name: measured(name, **settings) for name, settings in SETTINGS.items()}
    return {name: (*values, rival(values[0])) for name, values in found.items()}


def test_every_method_is_measured_where_topk_was(table):
    assert all(4 < active < 8 for active, *_ in table.values()), table


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_active_for_active(table, name):
    """Those whose papers claim it leave less unexplained than TopK; ReLU with L1, which shrinks, leaves more."""
    _, left, like, control = table[name]
    assert like > 0.85
    if name in BETTER:
        assert left < 0.9 * control
    if name == "relu_l1":
        assert left > 1.5 * control
