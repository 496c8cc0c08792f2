"""Mamba (arXiv 2312.00752): in each layer a norm and a mixer, whose state carries what came before from token to token.

mixer_in -> one product gives conv_in and gate -> a short causal convolution and SiLU: conv_out -> the state space, times SiLU
of the gate: ssm_out -> the last product: mixer_out, added to the stream.
"""

import sys
from typing import Any

from actscope.core.errors import NotAModel
from actscope.core.site import LAYER_KINDS, Site, SiteInfo
from actscope.subjects._taps import NormScaleTap, SharedTap, SliceTap, Tap
from actscope.subjects.anatomy._anatomy import ABSENT, Anatomy, attend
from actscope.subjects.anatomy._decoder import NO_EXPERTS

__all__ = ["mamba"]

KINDS = (
    "resid_pre", "mixer_norm_scale", "mixer_in", "conv_in", "gate", "conv_out", "ssm_out", "mixer_out", "mixer_add",
    "resid_post",
)  # fmt: skip
CLASSES = ("MambaForCausalLM", "MambaModel")


def mamba(config: Any) -> Anatomy:
    """The sites of a MambaForCausalLM or MambaModel with this config. Raises NotAModel where padding would be seen: with a bias
    in the first product, the convolution is told of tokens that are not there."""
    if config.use_bias:
        raise NotAModel("This Mamba has use_bias set, with which padding on the left reaches real tokens; expected it unset.")
    taps: dict[Site, Tap] = {Site("embed"): _tap("backbone.embeddings", "out", config.hidden_size)}
    for layer in range(config.num_hidden_layers):
        taps |= {Site(kind, layer): tap for kind, tap in _layer(config, f"backbone.layers.{layer}").items()}
    taps[Site("final_norm_scale")] = _scale(config, "backbone.norm_f")
    taps[Site("final_norm")] = _tap("backbone.norm_f", "out", config.hidden_size)
    taps[Site("logits")] = _tap("lm_head", "out", config.vocab_size)
    missing = {kind: why for kind, why in {**ABSENT, **NO_EXPERTS}.items() if kind not in KINDS}
    for kind in LAYER_KINDS:
        if kind not in KINDS and kind not in missing:
            missing[kind] = "it has no MLP beside its mixer" if kind.startswith(("mlp", "resid")) else "it has no attention"
    told = ("attention_mask", "use_cache")
    return Anatomy(taps, missing, {}, attend, sys.maxsize, classes=CLASSES, told=told)


def _layer(config: Any, path: str) -> dict[str, Tap]:
    """In the order of computation."""
    width, inner, mixer = config.hidden_size, config.intermediate_size, f"{path}.mixer"
    both = SiteInfo(("b", "t", inner), f"{mixer}.in_proj", "computed")
    return {
        "resid_pre": _tap(path, "in", width),
        "mixer_norm_scale": _scale(config, f"{path}.norm"),
        "mixer_in": _tap(f"{path}.norm", "out", width),
        "conv_in": SliceTap(both, "out", 0),
        "gate": SliceTap(both, "out", inner),
        "conv_out": SharedTap(SiteInfo(("b", "t", inner), f"{mixer}.x_proj", "in"), "in"),
        "ssm_out": _tap(f"{mixer}.out_proj", "in", inner),
        "mixer_out": _tap(f"{mixer}.out_proj", "out", width),
        "mixer_add": _tap(mixer, "out", width),
        "resid_post": _tap(path, "out", width),
    }


def _tap(path: str, side: str, width: int) -> Tap:
    return Tap(SiteInfo(("b", "t", width), path, "in" if side == "in" else "out"), side)


def _scale(config: Any, path: str) -> Tap:
    return NormScaleTap(SiteInfo(("b", "t", 1), path, "computed"), "out", config.layer_norm_epsilon, centred=False)
