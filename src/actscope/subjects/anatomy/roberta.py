"""RoBERTa (arXiv 1907.11692): BERT's parts; positions are counted from the padding token's id on."""

from dataclasses import replace
from typing import Any

from actscope.core.errors import NotAModel
from actscope.subjects.anatomy._anatomy import Anatomy
from actscope.subjects.anatomy._decoder import sizes
from actscope.subjects.anatomy._encoder import PostNames, encoder

__all__ = ["roberta"]


def roberta(config: Any) -> Anatomy:
    """The sites of a RobertaForMaskedLM or RobertaModel with this config. Raises NotAModel for a RoBERTa made a decoder."""
    if config.is_decoder or config.add_cross_attention:
        raise NotAModel("This RoBERTa has is_decoder or add_cross_attention set; expected an encoder, with neither.")
    first = config.pad_token_id + 1
    found = replace(sizes(config), context=config.max_position_embeddings - first)
    classes = ("RobertaForMaskedLM", "RobertaModel")
    return encoder(found, PostNames("roberta", "lm_head"), config.layer_norm_eps, classes=classes, first_position=first)
