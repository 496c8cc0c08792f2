"""DINOv2 (arXiv 2304.07193): ViT's parts; what a block gives is multiplied, number by number, before it is added (LayerScale),
so attn_add and mlp_add differ from *_out. The giant has a gated MLP.
"""

from dataclasses import replace
from typing import Any

from actscope.subjects.anatomy._anatomy import Anatomy
from actscope.subjects.anatomy._decoder import Names
from actscope.subjects.anatomy._vision import vision

__all__ = ["dinov2"]

NAMES = Names(
    base="dinov2",
    layers="encoder.layer",
    embed="embeddings",
    final="layernorm",
    attention="attention",
    attn_norm="norm1",
    q="attention.q_proj",
    k="attention.k_proj",
    v="attention.v_proj",
    out="attention.o_proj",
    attn_add="layer_scale1",
    mlp_norm="norm2",
    gate=None,
    up="mlp.fc1",
    down="mlp.fc2",
    mlp_add="layer_scale2",
)


def dinov2(config: Any) -> Anatomy:
    """The sites of a Dinov2ForImageClassification or Dinov2Model with this config."""
    names, inner = NAMES, int(config.hidden_size * config.mlp_ratio)
    if config.use_swiglu_ffn:
        names = replace(names, gate="mlp.gate_proj", up="mlp.up_proj", down="mlp.down_proj")
        inner = (int(inner * 2 / 3) + 7) // 8 * 8
    classes = ("Dinov2ForImageClassification", "Dinov2Model")
    return vision(config, names, inner=inner, classes=classes, head="classifier", resizes=True)
