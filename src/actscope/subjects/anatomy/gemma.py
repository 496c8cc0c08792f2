"""Gemma 1 (arXiv 2403.08295): Llama's parts; embeddings are multiplied by the root of the width, and norms by 1 + weight."""

from typing import Any

from actscope.subjects.anatomy._anatomy import Anatomy
from actscope.subjects.anatomy._decoder import Names, Norm, decoder, sizes

__all__ = ["gemma"]


def gemma(config: Any) -> Anatomy:
    """The sites of a GemmaForCausalLM with this config."""
    return decoder(sizes(config), Names(), Norm(config.rms_norm_eps, offset=1.0))
