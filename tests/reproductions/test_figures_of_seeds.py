"""When figures of several seeds count as above others."""

import pytest

from actscope.reproductions._parts.seeds import beyond, gathered, means


def test_figures_are_gathered_by_name():
    figures = gathered([{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 5.0}])
    assert figures == {"a": (1.0, 3.0), "b": (2.0, 5.0)}
    assert means(figures) == {"a": 2.0, "b": 3.5}


@pytest.mark.parametrize(
    ("high", "low", "shown"),
    [
        ((1.0, 1.1, 1.2), [(0.0, 0.1, 0.2)], True),
        ((1.0, 1.1, 1.2), [(0.0, 0.1, 0.2), (0.5, 1.15, 0.2)], False),  # one seed below one of them
        ((0.1, 0.2, 3.0), [(0.0, 0.0, 0.0)], False),  # above in every seed, but the interval reaches below 0
        ((1.0,), [(0.5,)], True),
        ((1.0,), [(1.0,)], False),
    ],
)
def test_above_in_every_seed_and_beyond_chance(high, low, shown):
    assert beyond(high, *low) is shown
