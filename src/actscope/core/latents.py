"""What was seen of every latent of a dictionary in one pass over a store.

Letters: m latents, n examples, b bins, p others, t tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from actscope.core.errors import BadInput

OCTAVE = 8  # bins of the histogram in which activations double
LOWEST = -16  # the first begins at 2^-16
BINS = 32 * OCTAVE


@dataclass(frozen=True)
class Examples:
    """Places where a latent is active; of many latents, with a leading dimension. Slots that nothing fills have row -1."""

    row: Int[Tensor, "*m n"]  # of the store
    where: Int[Tensor, "*m n 2"]  # (document, position)
    value: Float[Tensor, "*m n"]

    def __len__(self) -> int:
        return self.row.shape[-1]

    def __getitem__(self, which: Int[Tensor, " k"] | slice) -> "Examples":
        """Some of one latent's."""
        return Examples(self.row[which], self.where[which], self.value[which])

    def of(self, latent: int) -> "Examples":
        """One latent's, without empty slots."""
        there = self.row[latent] >= 0
        return Examples(self.row[latent][there], self.where[latent][there], self.value[latent][there])


@dataclass(frozen=True)
class Near:
    """Other latents, the nearest first; -1 where there are no more. share: what they are ranked by."""

    latent: Int[Tensor, "m p"]
    share: Float[Tensor, "m p"]


@dataclass(frozen=True)
class Effects:
    """Tokens whose logit a latent's direction raises (or lowers) most, and by how much; see core.lens."""

    token: Int[Tensor, "m t"]
    change: Float[Tensor, "m t"]


@dataclass(frozen=True)
class Latents:
    """A latent fires where its value is above 0. Examples are exact: of equal values the earlier row comes first.

    top: the largest values. sample: a uniform draw, without replacement, from the rows where a latent fires, in random order.
    together: latents that fire with this one, by the Jaccard index of their rows, estimated from the sample.
    alike: latents whose atoms point the same way, by cosine.
    """

    dictionary: str  # hash of the dictionary
    store: str  # content hash
    seed: int
    rows: int  # read
    fired: Int[Tensor, " m"]  # rows on which each fires
    total: Float[Tensor, " m"]  # of its values
    histogram: Int[Tensor, "m b"]
    top: Examples
    sample: Examples
    together: Near
    alike: Near
    promoted: Effects | None = None
    suppressed: Effects | None = None

    def __len__(self) -> int:
        return len(self.fired)

    @property
    def density(self) -> Float[Tensor, " m"]:
        """The share of rows on which each fires."""
        return self.fired / self.rows

    @property
    def mean(self) -> Float[Tensor, " m"]:
        """Of each one's values where it fires; 0 where it never does."""
        return self.total / self.fired.clamp(min=1)

    def counts(self, latent: int) -> tuple[Float[Tensor, " b1"], Int[Tensor, " b"]]:
        """(edges, firings between them), from the first bin that holds any to the last. Eight bins double the value; what is
        below 2^-16 or above 2^16 stands in the outermost."""
        held = self.histogram[latent].nonzero()[:, 0]
        first, last = (int(held[0]), int(held[-1]) + 1) if len(held) else (0, 0)
        edge = torch.arange(first, last + 1)
        power, step = edge.div(OCTAVE, rounding_mode="floor"), edge % OCTAVE
        return torch.ldexp(1 + step / OCTAVE, power + LOWEST), self.histogram[latent, first:last]

    def random(self, latent: int, n: int) -> Examples:
        """Up to n of its firings, drawn uniformly. Raises BadInput for more than were kept."""
        if n > len(self.sample):
            raise BadInput(
                f"{n} random examples asked for, {len(self.sample)} were kept of each latent; give a larger sample=."
            )
        return self.sample.of(latent)[:n]

    def quantiles(self, latent: int, shares: Sequence[float]) -> Examples:
        """The firings at these shares of its sample, 0 its weakest and 1 its strongest. A share is off by 1 / (2 sqrt(s)), s
        being the sample's size, in one standard deviation at most."""
        drawn = self.sample.of(latent)
        rising = drawn[drawn.value.argsort(stable=True)]
        if not len(rising) or not all(0 <= share <= 1 for share in shares):
            return rising[:0]
        return rising[(torch.tensor(list(shares)) * (len(rising) - 1)).round().long()]
