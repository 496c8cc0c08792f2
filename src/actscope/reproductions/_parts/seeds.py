"""Figures of several seeds, and what they show."""

from collections.abc import Mapping, Sequence

from actscope.scores._parts.seeds import over_seeds


def gathered(found: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, ...]]:
    """What each seed found -> every figure with a number a seed."""
    return {name: tuple(one[name] for one in found) for name in found[0]}


def means(figures: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Every figure's mean over seeds."""
    return {name: over_seeds(values)[0] for name, values in figures.items()}


def beyond(high: Sequence[float], *low: Sequence[float]) -> bool:
    """Whether the first is above all others in every seed, and by more than chance on average: the 95% interval of what is
    between it and the highest of the others (Student's t) lies above 0. One seed has no interval."""
    gaps = [ours - max(others) for ours, *others in zip(high, *low, strict=True)]
    interval = over_seeds(gaps)[1]
    return min(gaps) > 0 and (interval is None or interval[0] > 0)
