"""Gemma 3, text (arXiv 2503.19786): Gemma 2's norms around each block, and norms on queries and keys in place of the caps."""

from typing import Any

from actscope.subjects.anatomy._anatomy import Anatomy
from actscope.subjects.anatomy._decoder import Names, Norm, decoder, sizes, windows

__all__ = ["gemma3_text"]

NAMES = Names(
    attn_add="post_attention_layernorm",
    mlp_norm="pre_feedforward_layernorm",
    mlp_add="post_feedforward_layernorm",
    q_norm="self_attn.q_norm",
    k_norm="self_attn.k_norm",
    q_norm_on="turned",
)


def gemma3_text(config: Any) -> Anatomy:
    """The sites of a Gemma3ForCausalLM with this config."""
    norm, capped = Norm(config.rms_norm_eps, offset=1.0), config.final_logit_softcapping is not None
    return decoder(sizes(config), NAMES, norm, capped=capped, windows=windows(config))
