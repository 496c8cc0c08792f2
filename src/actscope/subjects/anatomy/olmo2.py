"""OLMo 2 (arXiv 2501.00656): norms only after each block, and over all queries and all keys before they are turned.

Attention and MLP read the stream as it is: attn_in is resid_pre, and there is no mlp_in beside resid_mid.
"""

from typing import Any

from actscope.subjects.anatomy._anatomy import Anatomy
from actscope.subjects.anatomy._decoder import Names, Norm, decoder, sizes

__all__ = ["olmo2"]

NAMES = Names(
    attn_norm=None,
    mlp_norm=None,
    attn_add="post_attention_layernorm",
    mlp_add="post_feedforward_layernorm",
    q_norm="self_attn.q_norm",
    k_norm="self_attn.k_norm",
    q_norm_on="flat",
)


def olmo2(config: Any) -> Anatomy:
    """The sites of an Olmo2ForCausalLM with this config."""
    return decoder(sizes(config), NAMES, Norm(config.rms_norm_eps))
