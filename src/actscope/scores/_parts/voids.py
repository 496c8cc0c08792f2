"""Voids by L2 adaptive computation, as `scores/subject/void_layers.py` tells it, and interventions that skip layers.

Letters: b batch, t tokens, l layers.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from actscope.core.intervention import At, Copy
from actscope.core.site import Site


def voids(lengths: Float[Tensor, "b t lengths"], alpha: float, *, own: bool = True) -> Bool[Tensor, "b t l"]:
    """Which layers are voids for which token, from its length before the first layer and after every layer.

    own: whether layer l's own delta counts among those seen so far; the authors' code leaves it out.
    """
    delta = lengths.diff(dim=-1)
    reach = delta.cummax(-1).values - delta.cummin(-1).values
    if not own:
        reach = torch.cat([torch.zeros_like(reach[..., :1]), reach[..., :-1]], -1)
    return delta < alpha * reach


def drawn(void: Bool[Tensor, "b t l"], draw: torch.Generator) -> Bool[Tensor, "b t l"]:
    """As many layers of each token, drawn at random."""
    return void.gather(-1, torch.rand(void.shape, generator=draw).argsort(-1))


def elsewhere(void: Bool[Tensor, "b t l"], text: Bool[Tensor, "b t"], draw: torch.Generator) -> Bool[Tensor, "b t l"]:
    """Each layer's voids dealt out again among the batch's tokens of text."""
    rows = void[text]
    dealt = void.clone()
    dealt[text] = rows.gather(0, torch.rand(rows.shape, generator=draw).argsort(0))
    return dealt


def skipping(before: Iterable[Site], after: Iterable[Site], skip: Bool[Tensor, "b t l"]) -> tuple[At, ...]:
    """Each layer's end holds what stood at its beginning, at the tokens that skip it."""
    return tuple(At(Copy(end, start), skip[..., n]) for n, (start, end) in enumerate(zip(before, after, strict=True)))
