"""DistilBERT (arXiv 1910.01108): BERT at half the depth, without token types; the parts have names of their own."""

from typing import Any

from actscope.subjects.anatomy._anatomy import Anatomy
from actscope.subjects.anatomy._decoder import Sizes
from actscope.subjects.anatomy._encoder import PostNames, encoder

__all__ = ["distilbert"]

NAMES = PostNames(
    base="distilbert",
    head="vocab_projector",
    layers="transformer.layer",
    attention="attention",
    q="q_lin",
    k="k_lin",
    v="v_lin",
    out="attention.out_lin",
    attn_add="attention.out_lin",
    attn_norm="sa_layer_norm",
    up="ffn.lin1",
    down="ffn.lin2",
    mlp_add="ffn.dropout",
    mlp_norm="output_layer_norm",
)


def distilbert(config: Any) -> Anatomy:
    """The sites of a DistilBertForMaskedLM or DistilBertModel with this config."""
    sizes = Sizes(
        config.n_layers, config.dim, config.n_heads, config.n_heads, config.dim // config.n_heads, config.hidden_dim,
        config.vocab_size, config.max_position_embeddings,
    )  # fmt: skip
    return encoder(sizes, NAMES, 1e-12, classes=("DistilBertForMaskedLM", "DistilBertModel"))
