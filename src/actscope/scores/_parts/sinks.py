"""Sink tokens: by the attention they get, and by the massive activations that stand at them.

Letters: b batch, h heads, t tokens, d width.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

LATER = 8  # tokens that must look at a token before it is said what it gets


def received(
    pattern: Float[Tensor, "b h t t"], mask: Bool[Tensor, "b t"], *, causal: bool = True
) -> tuple[Float[Tensor, "b h t"], Int[Tensor, "b t"]]:
    """(the mean attention that each token gets from all that see it, itself included; how many these are)."""
    t = pattern.shape[-1]
    sees = mask[:, :, None] & mask[:, None, :]
    if causal:
        sees = sees & torch.ones(t, t, dtype=torch.bool).tril()
    seen_by = sees.sum(1)
    return (pattern * sees[:, None]).sum(2) / seen_by.clamp_min(1)[:, None], seen_by


def massive(x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"], times: float) -> Bool[Tensor, "b t d"]:
    """Numbers at least `times` as large as the median one of their sequence (Sun et al. 2024, arXiv:2402.17762)."""
    size = x.abs().float()
    medians = torch.stack([row[here].median() for row, here in zip(size, mask, strict=True)])
    return (size >= times * medians[:, None, None]) & mask[..., None]
