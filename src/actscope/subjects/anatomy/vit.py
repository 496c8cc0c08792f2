"""ViT (arXiv 2010.11929): an image as patches and a class token, LayerNorm before each block, an MLP without a gate."""

from typing import Any

from actscope.subjects.anatomy._anatomy import Anatomy
from actscope.subjects.anatomy._decoder import Names
from actscope.subjects.anatomy._vision import vision

__all__ = ["vit"]

NAMES = Names(
    base="vit",
    embed="embeddings",
    final="layernorm",
    attention="attention",
    attn_norm="layernorm_before",
    q="attention.q_proj",
    k="attention.k_proj",
    v="attention.v_proj",
    out="attention.o_proj",
    mlp_norm="layernorm_after",
    gate=None,
    up="mlp.fc1",
    down="mlp.fc2",
)


def vit(config: Any) -> Anatomy:
    """The sites of a ViTForImageClassification or ViTModel with this config."""
    classes = ("ViTForImageClassification", "ViTModel")
    return vision(config, NAMES, inner=config.intermediate_size, classes=classes, head="classifier")
