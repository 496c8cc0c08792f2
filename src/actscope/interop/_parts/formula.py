"""Foreign encoders written out: plain dense products, against which a conversion is measured.

Letters: n rows, d width read, o width written, m latents, k active.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput

TIE = 1e-5  # of a row's largest pre-activation: latents nearer than this to being switched may go either way
ROWS = 512


class Chosen(NamedTuple):
    """codes, and how far each latent's pre-activation is from being switched on or off."""

    codes: Float[Tensor, "n m"]
    margin: Float[Tensor, "n m"]


class Given(NamedTuple):
    """What the foreign formula gives for rows."""

    chosen: Chosen
    output: Float[Tensor, "n o"]


Formula = Callable[[Tensor], Given]


def relu(pre: Float[Tensor, "n m"]) -> Chosen:
    return Chosen(pre.relu(), pre.abs())


def topk(pre: Float[Tensor, "n m"], k: int) -> Chosen:
    """The k largest, those above zero."""
    value, index = pre.topk(k, dim=1)
    codes = torch.zeros_like(pre).scatter(1, index, value.relu())
    following = pre.topk(min(k + 1, pre.shape[1]), dim=1).values[:, -1:]
    inside = torch.zeros_like(pre, dtype=torch.bool).scatter(1, index, True)
    margin = torch.where(inside, pre - following, value[:, -1:] - pre)
    return Chosen(codes, torch.minimum(margin, pre.abs()))


def jumprelu(pre: Float[Tensor, "n m"], threshold: Float[Tensor, " m"] | Float[Tensor, ""]) -> Chosen:
    """pre where it is above the threshold and above zero."""
    return Chosen(pre.relu() * (pre > threshold), (pre - threshold).abs())


def gated(gate: Float[Tensor, "n m"], magnitude: Float[Tensor, "n m"]) -> Chosen:
    return Chosen((gate > 0) * magnitude.relu(), torch.minimum(gate.abs(), magnitude.abs()))


def select(rule: str, pre: Float[Tensor, "n m"], *, k: int | None = None, threshold: Tensor | None = None) -> Chosen:
    """relu, topk or jumprelu by name."""
    if rule == "topk" and k is not None:
        return topk(pre, k)
    if rule == "jumprelu" and threshold is not None:
        return jumprelu(pre, threshold)
    assert rule == "relu", (rule, k)
    return relu(pre)


@dataclass(frozen=True)
class Fidelity:
    """How far a converted dictionary is from the foreign formula: the largest, over rows, of |difference| / |theirs|.

    ties: rows left out because a latent nearer than 1e-5 of the row's largest pre-activation to its switch went the other way.
    """

    codes: float
    reconstruction: float
    rows: int
    ties: int


@torch.no_grad()
def fidelity(dictionary: Dictionary, formula: Formula, x: Float[Tensor, "n d"]) -> Fidelity:
    """Measure a conversion on rows of the site read; of several sites, side by side. Raises BadInput for no rows."""
    if not len(x):
        raise BadInput("No rows were given to measure the conversion on; give at least one.")
    worst, ties = torch.zeros(2), 0
    for rows in x.float().split(ROWS):
        (theirs, margin), output = formula(rows)
        codes = dictionary.encode(rows)
        given = dictionary.decode(codes, rows)
        ours, rebuilt = codes.dense(), torch.cat([given[port] for port in dictionary.writes], dim=1)
        near = margin <= TIE * theirs.amax(1, keepdim=True).clamp(min=torch.finfo(theirs.dtype).tiny)
        switched = (ours != 0) != (theirs != 0)
        tied = (switched & near).any(1) & ~(switched & ~near).any(1)
        ties += int(tied.sum())
        apart = torch.stack([_apart(ours[~tied], theirs[~tied]), _apart(rebuilt[~tied], output[~tied])])
        worst = torch.maximum(worst, apart)  # NaN stays
    return Fidelity(float(worst[0]), float(worst[1]), len(x), ties)


def _apart(ours: Tensor, theirs: Tensor) -> Tensor:
    """The largest over rows of |ours - theirs| / |theirs|; rows of zeros count with length 1."""
    if not len(ours):
        return torch.zeros(())
    length = theirs.norm(dim=1)
    return ((ours - theirs).norm(dim=1) / torch.where(length > 0, length, torch.ones_like(length))).max()
