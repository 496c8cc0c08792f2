"""What a family's file says of its models, and the attention function in the open.

Letters: b batch, t tokens, s tokens attended to, h heads, g heads of keys and values, dh and dv their widths.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from actscope.core.site import Site
from actscope.subjects._taps import Tap

Attend = Callable[..., tuple[Tensor, Tensor | None]]
# (kind, value) -> the value that goes on
Visit = Callable[[str, Tensor], Tensor]


@dataclass(frozen=True)
class Anatomy:
    """The sites of one model.

    taps: every site it has, in the order it is computed. missing: kinds of the table it lacks -> why. attention: path of
    each attention module -> its layer. attend: that module's own eager attention, calling `visit(kind, value)` for q_rot,
    k_rot, v (where no module gives it), attn_scores and attn_pattern as they arise. context: longest sequence, in tokens.
    windows: how many tokens back attention looks, itself included, None for all; where layers differ, by their type as the
    config names it. method: the attention modules' own method that `attend` stands in for, in families that do not ask
    transformers for the function.
    latent: the cache holds what keys and values are made from, so that these are made anew at every step.
    """

    taps: Mapping[Site, Tap]
    missing: Mapping[str, str]
    attention: Mapping[str, int]
    attend: Attend
    context: int
    windows: int | Mapping[str, int | None] | None = None
    method: str = ""
    latent: bool = False

    def without(self, missing: Mapping[str, str]) -> "Anatomy":
        """The same with fewer kinds of sites, and why."""
        taps = {site: tap for site, tap in self.taps.items() if site.kind not in missing}
        return replace(self, taps=taps, missing={**self.missing, **missing})


def attend(
    module: nn.Module,
    query: Float[Tensor, "b h t dh"],
    key: Float[Tensor, "b g s dh"],
    value: Float[Tensor, "b g s dv"],
    mask: Float[Tensor, "..."] | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    softcap: float | None = None,
    visit: Visit,
) -> tuple[Float[Tensor, "b t h dv"], Float[Tensor, "b h t s"]]:
    """Softmax attention step by step, in the order and precision of transformers' eager attention, so bitwise equal to it.

    g heads of keys and values serve h / g queries each. softcap: c tanh(scores / c) before the mask.
    """
    query, key, value = visit("q_rot", query), visit("k_rot", key), visit("v", value)
    if (shared := query.shape[1] // key.shape[1]) > 1:
        key, value = (x.repeat_interleave(shared, dim=1) for x in (key, value))
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling
    if softcap is not None:
        scores = (scores / softcap).tanh() * softcap
    if mask is not None:
        scores = scores + mask
    scores = visit("attn_scores", scores)
    pattern = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    pattern = visit("attn_pattern", pattern)
    weights = nn.functional.dropout(pattern, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), pattern
