"""Mixtral (arXiv 2401.04088): Mistral's parts, with experts in place of every MLP, the chosen ones' weights summing to 1."""

from typing import Any

from actscope.subjects.anatomy._anatomy import Anatomy
from actscope.subjects.anatomy._decoder import Experts, Names, Norm, decoder, sizes

__all__ = ["mixtral"]


def mixtral(config: Any) -> Anatomy:
    """The sites of a MixtralForCausalLM with this config."""
    experts = Experts(range(config.num_hidden_layers), config.num_local_experts)
    return decoder(sizes(config), Names(), Norm(config.rms_norm_eps), experts=experts, windows=config.sliding_window)
