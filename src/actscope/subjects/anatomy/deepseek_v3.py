"""DeepSeek-V3 (arXiv 2412.19437): DeepSeek-V2's parts, with a router of sigmoids whose choice is limited to some groups of
experts and moved by a bias that the weights do not see.
"""

from typing import Any

from actscope.subjects.anatomy._anatomy import Anatomy
from actscope.subjects.anatomy._decoder import Experts
from actscope.subjects.anatomy._latent import latent

__all__ = ["deepseek_v3"]


def deepseek_v3(config: Any) -> Anatomy:
    """The sites of a DeepseekV3ForCausalLM with this config."""
    layers = range(config.first_k_dense_replace, config.num_hidden_layers)
    return latent(config, Experts(layers, config.n_routed_experts, shared="mlp.shared_experts"))
