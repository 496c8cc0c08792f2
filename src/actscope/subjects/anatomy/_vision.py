"""Encoders of images: patches and a class token, norms before each block, every token seeing all.

`embed` is what the patches and the class token are with their positions; the model's first norm, where it has one, stands
between it and resid_pre of layer 0.
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from actscope.subjects.anatomy._anatomy import Anatomy, Images
from actscope.subjects.anatomy._decoder import Names, Norm, Sizes, decoder


def vision(
    config: Any, names: Names, *, inner: int, classes: tuple[str, ...], head: str, lacks: Mapping[str, str] | None = None,
    resizes: bool = False,
) -> Anatomy:  # fmt: skip
    """The sites of such a model. inner: width of its MLP. head: module of the logits, one for each class of image. lacks: kinds
    of sites that it has not -> why. classes: as Anatomy takes them. resizes: as Images takes it."""
    width, heads = config.hidden_size, config.num_attention_heads
    images = Images(config.num_channels, _pair(config.image_size), _pair(config.patch_size), resizes=resizes)
    tokens = sys.maxsize if resizes else images.tokens((1, 1, *images.size))
    head_width = getattr(config, "head_dim", None) or width // heads
    sizes = Sizes(config.num_hidden_layers, width, heads, heads, head_width, inner, 0, tokens)
    found = decoder(
        sizes, names, Norm(config.layer_norm_eps, centred=True), rotary=False, head=(head, ("b", config.num_labels)),
        causal=False, told=(), classes=classes, images=images,
    )  # fmt: skip
    lacks = lacks or {}
    kept = {site: tap for site, tap in found.taps.items() if site.kind not in lacks}
    return replace(found, taps=kept, missing={**found.missing, **lacks})


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)
