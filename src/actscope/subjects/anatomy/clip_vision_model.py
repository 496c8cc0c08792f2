"""CLIP's encoder of images (arXiv 2103.00020): ViT's parts, a norm before the first layer, and one after the last that sees the
class token alone.
"""

from typing import Any

from actscope.subjects.anatomy._anatomy import Anatomy
from actscope.subjects.anatomy._decoder import Names
from actscope.subjects.anatomy._vision import vision

__all__ = ["clip_vision_model"]

NAMES = Names(
    base="vision_model",
    layers="encoder.layers",
    embed="embeddings",
    final="post_layernorm",
    attn_norm="layer_norm1",
    out="self_attn.out_proj",
    mlp_norm="layer_norm2",
    gate=None,
    up="mlp.fc1",
    down="mlp.fc2",
)
LAST = "its last norm sees the class token alone; read the module post_layernorm"
LACKS = {
    "final_norm": LAST,
    "final_norm_scale": LAST,
    "logits": "it gives an embedding of the class token; read the module visual_projection where it has one",
}


def clip_vision_model(config: Any) -> Anatomy:
    """The sites of a CLIPVisionModelWithProjection or CLIPVisionModel with this config."""
    classes = ("CLIPVisionModelWithProjection", "CLIPVisionModel")
    return vision(config, NAMES, inner=config.intermediate_size, classes=classes, head="", lacks=LACKS)
