"""GPT-2 (Radford et al. 2019): learned positions, LayerNorm before each block, one product for queries, keys and values."""

from typing import Any

from actscope.core.errors import NotAModel
from actscope.subjects.anatomy._anatomy import Anatomy
from actscope.subjects.anatomy._decoder import Names, Norm, decoder, sizes

__all__ = ["gpt2"]

NAMES = Names(
    base="transformer",
    layers="h",
    embed="wte",
    final="ln_f",
    attention="attn",
    attn_norm="ln_1",
    qkv="attn.c_attn",
    out="attn.c_proj",
    attn_add="attn.resid_dropout",
    mlp_norm="ln_2",
    gate=None,
    up="mlp.c_fc",
    down="mlp.c_proj",
    mlp_add="mlp.dropout",
)


def gpt2(config: Any) -> Anatomy:
    """The sites of a GPT2LMHeadModel with this config. Raises NotAModel for cross-attention and reordered attention."""
    if config.add_cross_attention or config.reorder_and_upcast_attn:
        raise NotAModel("This GPT-2 has add_cross_attention or reorder_and_upcast_attn set; expected one with neither.")
    return decoder(sizes(config), NAMES, Norm(config.layer_norm_epsilon, centred=True), rotary=False)
