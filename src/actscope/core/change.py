"""Anything done to a subject: steering, an edit, a compression. Reversible, saveable, and scored alike."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from actscope.core.intervention import Intervention


@dataclass(frozen=True)
class Delta:
    """A parameter's new value: `value` added to the old one, or in its place."""

    value: Tensor
    replaces: bool = False

    def __call__(self, old: Tensor) -> Tensor:
        return self.value.to(old) if self.replaces else old + self.value.to(old)


@dataclass(frozen=True)
class Change:
    """Interventions that stand on every run, and parameters that differ. `origin` names the method and its settings."""

    interventions: tuple[Intervention, ...] = ()
    weights: Mapping[str, Delta] = field(default_factory=dict)  # parameter name -> Delta
    origin: str = ""
