"""What one latent is said to mean, how it was found, and how well that holds up."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from actscope.core.predicate import Predicate
from actscope.core.score import Score


@dataclass(frozen=True)
class Explanation:
    latent: int
    text: str  # a plain sentence
    method: str
    rule: Predicate | None = None  # serialisable, so it can be judged without a language model
    evidence: Mapping[str, object] = field(default_factory=dict)  # what it was made from: plain JSON values
    scores: tuple[Score, ...] = ()

    def score(self, name: str) -> Score:
        """The score of that name. Raises KeyError when it was not measured."""
        return next(score for score in self.scores if score.name == name)
