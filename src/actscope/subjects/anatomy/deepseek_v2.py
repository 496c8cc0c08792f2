"""DeepSeek-V2 (arXiv 2405.04434): latent attention; after some layers with one MLP, experts with a softmax router beside
experts that all tokens share.
"""

from typing import Any

from actscope.subjects.anatomy._anatomy import Anatomy
from actscope.subjects.anatomy._decoder import Experts
from actscope.subjects.anatomy._latent import latent

__all__ = ["deepseek_v2"]


def deepseek_v2(config: Any) -> Anatomy:
    """The sites of a DeepseekV2ForCausalLM with this config."""
    layers = range(config.first_k_dense_replace, config.num_hidden_layers)
    return latent(config, Experts(layers, config.n_routed_experts, shared="mlp.shared_experts"))
