"""One token after another, from logits.

Letters: b batch, v vocabulary.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from actscope.core.errors import BadInput

_BLOCK = 64  # uniform numbers drawn at a time, so that a longer continuation begins as a shorter one


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen: temperature 0 takes the likeliest; above, one is drawn from softmax(logits / temperature), of the
    top_k likeliest only, of these the fewest that hold top_p of the probability (at least one). Raises BadInput."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not (_number(self.temperature) and 0 <= self.temperature < math.inf):
            raise BadInput(f"temperature={self.temperature!r}; expected 0, which takes the likeliest token, or a number above.")
        if self.top_k is not None and (type(self.top_k) is not int or self.top_k < 1):
            raise BadInput(f"top_k={self.top_k!r}; expected how many tokens to choose from, 1 or more, or None for all.")
        if self.top_p is not None and not (_number(self.top_p) and 0 < self.top_p <= 1):
            raise BadInput(f"top_p={self.top_p!r}; expected a probability above 0 and at most 1, or None for all tokens.")
        for name in ("top_k", "top_p"):
            if self.temperature == 0 and getattr(self, name) is not None:
                raise BadInput(
                    f"{name}={getattr(self, name)} has no effect at temperature 0, where the likeliest token is taken; "
                    "give a temperature, such as 1.0."
                )

    def choose(self, logits: Float[Tensor, "b v"], uniform: Float[Tensor, " b"] | None) -> Int[Tensor, " b"]:
        """A token a row. uniform: a number from [0, 1) a row, not used at temperature 0."""
        if self.temperature == 0:
            return logits.argmax(-1)
        assert uniform is not None
        total = self.probabilities(logits).cumsum(-1)
        whole = total[:, -1:]
        below = torch.minimum(uniform.to(whole)[:, None] * whole, whole.nextafter(torch.zeros_like(whole)))
        return torch.searchsorted(total, below, right=True)[:, 0].clamp(max=logits.shape[1] - 1)  # none is found among NaN

    def probabilities(self, logits: Float[Tensor, "b v"]) -> Float[Tensor, "b v"]:
        """What a token is drawn from at a temperature above 0: rows that sum to 1, in float64."""
        scaled = (logits.double() - logits.amax(-1, keepdim=True)) / self.temperature
        if self.top_k is not None and self.top_k < scaled.shape[1]:
            kept = scaled.topk(self.top_k, dim=-1).indices
            scaled = torch.full_like(scaled, -math.inf).scatter(1, kept, scaled.gather(1, kept))
        chances = scaled.softmax(-1)
        if self.top_p is None or self.top_p == 1:
            return chances
        ordered, place = chances.sort(dim=-1, descending=True, stable=True)
        enough = ordered.cumsum(-1) - ordered >= self.top_p
        chances = torch.zeros_like(chances).scatter(1, place, ordered.masked_fill(enough, 0.0))
        return chances / chances.sum(-1, keepdim=True)


class Streams:
    """Uniform numbers of several rows. A row's depend on the seed, its prompt, and how many rows before it have the same
    prompt, so they are the same alone and in a batch."""

    def __init__(self, prompts: Sequence[Sequence[int]], seed: int):
        same: dict[tuple[int, ...], int] = {}
        self._generators = []
        for prompt in map(tuple, prompts):
            number = same[prompt] = same.get(prompt, -1) + 1
            digest = hashlib.sha256(repr((seed, number, prompt)).encode()).digest()
            self._generators.append(torch.Generator().manual_seed(int.from_bytes(digest[:7], "big")))
        self._drawn = torch.empty(0)

    def at(self, step: int, rows: Sequence[int]) -> Float[Tensor, " rows"]:
        """The numbers of one step; steps are asked for in order from 0."""
        if step % _BLOCK == 0:
            drawn = [torch.rand(_BLOCK, generator=each, dtype=torch.float64) for each in self._generators]
            self._drawn = torch.stack(drawn, dim=1)
        numbers = self._drawn[step % _BLOCK]
        return numbers if len(rows) == len(numbers) else numbers[list(rows)]


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
