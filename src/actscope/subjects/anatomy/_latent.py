"""Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): keys and values are made from one small vector per token.

Part of each key is made for all heads at once and turned by the position; the other part and the value are made per head from
the vector and are not turned. A whole key exists only after turning.
"""

import dataclasses
from typing import Any

from actscope.core.site import SiteInfo
from actscope.subjects._taps import HeadsTap, TurnedTap
from actscope.subjects.anatomy._anatomy import Anatomy
from actscope.subjects.anatomy._decoder import Experts, Names, Norm, Sizes, decoder

NO_KEYS = "a key is put together from its two parts only after one of them is turned; see k_rot"


def latent(config: Any, experts: Experts) -> Anatomy:
    """The sites of a decoder with such attention."""
    heads = config.num_attention_heads
    sizes = Sizes(
        config.num_hidden_layers, config.hidden_size, heads, heads, config.qk_nope_head_dim + config.qk_rope_head_dim,
        config.intermediate_size, config.vocab_size, config.max_position_embeddings,
    )  # fmt: skip
    names = Names(q="self_attn.q_proj" if config.q_lora_rank is None else "self_attn.q_b_proj")
    found = decoder(sizes, names, Norm(config.rms_norm_eps), experts=experts)
    shape = ("b", "t", heads, config.v_head_dim)
    taps = dict(found.taps)
    for site, tap in found.taps.items():
        if site.kind == "z":
            taps[site] = HeadsTap(SiteInfo(shape, tap.info.module, "in"), "in")
        elif site.kind == "v":
            attention = tap.info.module.rpartition(".")[0]
            taps[site] = TurnedTap(SiteInfo(shape, attention, "computed"), "v")
    return dataclasses.replace(found, taps=taps, latent=True).without({"k": NO_KEYS})
