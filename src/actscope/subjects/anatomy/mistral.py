"""Mistral (arXiv 2310.06825): Llama's parts, with attention over a window in some versions."""

from typing import Any

from actscope.subjects.anatomy._anatomy import Anatomy
from actscope.subjects.anatomy._decoder import Names, Norm, decoder, sizes

__all__ = ["mistral"]


def mistral(config: Any) -> Anatomy:
    """The sites of a MistralForCausalLM with this config."""
    return decoder(sizes(config), Names(), Norm(config.rms_norm_eps), windows=config.sliding_window)
