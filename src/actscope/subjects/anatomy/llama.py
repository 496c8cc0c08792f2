"""Llama 1 to 3 (arXiv 2302.13971, 2407.21783): rotary positions, RMSNorm before each block, grouped keys, gated MLP."""

from typing import Any

from actscope.subjects.anatomy._anatomy import Anatomy
from actscope.subjects.anatomy._decoder import Names, Norm, decoder, sizes

__all__ = ["llama"]


def llama(config: Any) -> Anatomy:
    """The sites of a LlamaForCausalLM with this config."""
    return decoder(sizes(config), Names(), Norm(config.rms_norm_eps))
