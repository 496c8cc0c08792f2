"""One measured number, with what is needed to believe it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Score:
    """definition: "name@version", bumped whenever the formula changes, so that numbers are compared only with their like."""

    name: str
    definition: str
    value: float
    unit: str
    better: Literal["higher", "lower", "neither"]
    n: int  # how many independent things were measured
    interval: tuple[float, float] | None = None  # 95%
    control: float | None = None  # the same measure where there should be no effect
    parts: Mapping[str, float] = field(default_factory=dict)
