"""Qwen 3 (arXiv 2505.09388): Llama's parts, with an RMSNorm on each head's queries and keys before they are turned."""

from typing import Any

from actscope.subjects.anatomy._anatomy import Anatomy
from actscope.subjects.anatomy._decoder import Names, Norm, decoder, sizes, windows

__all__ = ["qwen3"]


def qwen3(config: Any) -> Anatomy:
    """The sites of a Qwen3ForCausalLM with this config."""
    names = Names(q_norm="self_attn.q_norm", k_norm="self_attn.k_norm")
    return decoder(sizes(config), names, Norm(config.rms_norm_eps), windows=windows(config))
