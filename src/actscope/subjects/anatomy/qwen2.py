"""Qwen 2 and 2.5 (arXiv 2407.10671): Llama's parts, with biases on queries, keys and values."""

from typing import Any

from actscope.subjects.anatomy._anatomy import Anatomy
from actscope.subjects.anatomy._decoder import Names, Norm, decoder, sizes, windows

__all__ = ["qwen2"]


def qwen2(config: Any) -> Anatomy:
    """The sites of a Qwen2ForCausalLM with this config."""
    return decoder(sizes(config), Names(), Norm(config.rms_norm_eps), windows=windows(config))
