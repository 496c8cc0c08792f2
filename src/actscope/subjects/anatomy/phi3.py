"""Phi-3 (arXiv 2404.14219): Llama's parts, with one product for queries, keys and values and one for gate and up."""

from typing import Any

from actscope.subjects.anatomy._anatomy import Anatomy
from actscope.subjects.anatomy._decoder import Names, Norm, decoder, sizes

__all__ = ["phi3"]

NAMES = Names(qkv="self_attn.qkv_proj", gate_up="mlp.gate_up_proj", attn_add="resid_attn_dropout", mlp_add="resid_mlp_dropout")


def phi3(config: Any) -> Anatomy:
    """The sites of a Phi3ForCausalLM with this config."""
    return decoder(sizes(config), NAMES, Norm(config.rms_norm_eps), windows=config.sliding_window)
