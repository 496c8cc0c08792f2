"""Qwen 3 with experts (arXiv 2505.09388): Qwen 3's parts, with experts in place of MLPs and none that all tokens share."""

from typing import Any

from actscope.subjects.anatomy._anatomy import Anatomy
from actscope.subjects.anatomy._decoder import Experts, Names, Norm, decoder, sizes, sparse_layers

__all__ = ["qwen3_moe"]


def qwen3_moe(config: Any) -> Anatomy:
    """The sites of a Qwen3MoeForCausalLM with this config."""
    names = Names(q_norm="self_attn.q_norm", k_norm="self_attn.k_norm")
    experts = Experts(sparse_layers(config), config.num_experts)
    return decoder(sizes(config), names, Norm(config.rms_norm_eps), experts=experts, windows=config.sliding_window)
