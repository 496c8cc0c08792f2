"""GPT-J (Wang and Komatsuzaki 2021): rotary positions, attention and MLP in parallel after one LayerNorm for both."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from actscope.subjects.anatomy._anatomy import Anatomy, Visit
from actscope.subjects.anatomy._decoder import Names, Norm, decoder, sizes

__all__ = ["gptj"]

NAMES = Names(
    base="transformer",
    layers="h",
    embed="wte",
    final="ln_f",
    attention="attn",
    attn_norm="ln_1",
    q="attn.q_proj",
    k="attn.k_proj",
    v="attn.v_proj",
    out="attn.out_proj",
    attn_add="attn.resid_dropout",
    mlp_norm="ln_1",
    gate=None,
    up="mlp.fc_in",
    down="mlp.fc_out",
    mlp_add="mlp.dropout",
)


def gptj(config: Any) -> Anatomy:
    """The sites of a GPTJForCausalLM with this config."""
    norm = Norm(config.layer_norm_epsilon, centred=True)
    return decoder(sizes(config), NAMES, norm, parallel=True, attend=_attend, method="_attn")


def _attend(
    module: Any,
    query: Float[Tensor, "b h t dh"],
    key: Float[Tensor, "b h s dh"],
    value: Float[Tensor, "b h s dh"],
    mask: Float[Tensor, "..."] | None = None,
    *,
    visit: Visit,
) -> tuple[Float[Tensor, "b h t dh"], Float[Tensor, "b h t s"]]:
    """In single precision up to the pattern, and divided by the root of the width, as the family does it."""
    query, key = visit("q_rot", query), visit("k_rot", key)
    scores = torch.matmul(query.float(), key.float().transpose(-1, -2)) / module.scale_attn
    if mask is not None:
        scores = scores + mask
    pattern = visit("attn_scores", scores).softmax(-1).to(value.dtype)
    pattern = visit("attn_pattern", pattern)
    return torch.matmul(module.attn_dropout(pattern), value), pattern
