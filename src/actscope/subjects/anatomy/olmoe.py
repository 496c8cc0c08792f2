"""OLMoE (arXiv 2409.02060): experts in place of every MLP, and norms over all queries and all keys before they are turned."""

from typing import Any

from actscope.subjects.anatomy._anatomy import Anatomy
from actscope.subjects.anatomy._decoder import Experts, Names, Norm, decoder, sizes

__all__ = ["olmoe"]

NAMES = Names(q_norm="self_attn.q_norm", k_norm="self_attn.k_norm", q_norm_on="flat")


def olmoe(config: Any) -> Anatomy:
    """The sites of an OlmoeForCausalLM with this config."""
    experts = Experts(range(config.num_hidden_layers), config.num_experts)
    clipped = () if config.clip_qkv is None else ("q", "k", "v")
    return decoder(sizes(config), NAMES, Norm(config.rms_norm_eps), experts=experts).without(
        dict.fromkeys(
            clipped, "its model clips them where they stand (clip_qkv), so none stay as they are made; see q_rot, k_rot"
        )
    )
