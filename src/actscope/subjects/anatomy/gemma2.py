"""Gemma 2 (arXiv 2408.00118): norms before and after each block, capped attention scores and logits, every other layer over a
window. What a block gives goes through its second norm before it is added: attn_add and mlp_add differ from *_out.
"""

from typing import Any

from actscope.subjects.anatomy._anatomy import Anatomy
from actscope.subjects.anatomy._decoder import Names, Norm, decoder, sizes, windows

__all__ = ["gemma2"]

NAMES = Names(attn_add="post_attention_layernorm", mlp_norm="pre_feedforward_layernorm", mlp_add="post_feedforward_layernorm")


def gemma2(config: Any) -> Anatomy:
    """The sites of a Gemma2ForCausalLM with this config."""
    norm, capped = Norm(config.rms_norm_eps, offset=1.0), config.final_logit_softcapping is not None
    return decoder(sizes(config), NAMES, norm, capped=capped, windows=windows(config))
