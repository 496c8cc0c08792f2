"""BERT (arXiv 1810.04805), and the sentence encoders that are one: every token sees all, LayerNorm after each block."""

from typing import Any

from actscope.core.errors import NotAModel
from actscope.subjects.anatomy._anatomy import Anatomy
from actscope.subjects.anatomy._decoder import sizes
from actscope.subjects.anatomy._encoder import PostNames, encoder

__all__ = ["bert"]


def bert(config: Any) -> Anatomy:
    """The sites of a BertForMaskedLM or BertModel with this config. Raises NotAModel for a BERT made a decoder."""
    if config.is_decoder or config.add_cross_attention:
        raise NotAModel("This BERT has is_decoder or add_cross_attention set; expected an encoder, with neither.")
    names = PostNames("bert", "cls")
    return encoder(sizes(config), names, config.layer_norm_eps, classes=("BertForMaskedLM", "BertModel"))
