"""OPT (arXiv 2205.01068): learned positions, LayerNorm before each block, an MLP without a gate."""

from typing import Any

from actscope.core.errors import NotAModel
from actscope.subjects.anatomy._anatomy import Anatomy
from actscope.subjects.anatomy._decoder import Names, Norm, Sizes, decoder

__all__ = ["opt"]

NAMES = Names(
    base="model.decoder",
    final="final_layer_norm",
    attn_norm="self_attn_layer_norm",
    out="self_attn.out_proj",
    mlp_norm="final_layer_norm",
    gate=None,
    up="fc1",
    down="fc2",
)


def opt(config: Any) -> Anatomy:
    """The sites of an OPTForCausalLM with this config. Raises NotAModel where norms stand after the blocks or embeddings are
    narrower than the stream (opt-350m)."""
    width, heads = config.hidden_size, config.num_attention_heads
    if not config.do_layer_norm_before or config._remove_final_layer_norm or config.word_embed_proj_dim != width:
        raise NotAModel(
            f"This OPT has do_layer_norm_before={config.do_layer_norm_before}, _remove_final_layer_norm="
            f"{config._remove_final_layer_norm} and word_embed_proj_dim={config.word_embed_proj_dim}; expected norms before "
            f"the blocks and at the end, and embeddings as wide as the stream ({width})."
        )
    sizes = Sizes(
        config.num_hidden_layers, width, heads, heads, width // heads, config.ffn_dim, config.vocab_size,
        config.max_position_embeddings,
    )  # fmt: skip
    return decoder(sizes, NAMES, Norm(1e-5, centred=True), rotary=False)
