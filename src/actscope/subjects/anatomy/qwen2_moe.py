"""Qwen 1.5 and 2 with experts (arXiv 2407.10671): Qwen 2's parts, and beside the chosen experts one that every token goes
through, times the sigmoid of a logit of its own. Some layers may have one MLP, as the config says.
"""

from typing import Any

from actscope.subjects.anatomy._anatomy import Anatomy
from actscope.subjects.anatomy._decoder import Experts, Names, Norm, decoder, sizes, sparse_layers, windows

__all__ = ["qwen2_moe"]


def qwen2_moe(config: Any) -> Anatomy:
    """The sites of a Qwen2MoeForCausalLM with this config."""
    experts = Experts(
        sparse_layers(config), config.num_experts,
        shared="mlp.shared_expert", shared_gate="mlp.shared_expert_gate", shared_first=True,
    )  # fmt: skip
    return decoder(sizes(config), Names(), Norm(config.rms_norm_eps), experts=experts, windows=windows(config))
