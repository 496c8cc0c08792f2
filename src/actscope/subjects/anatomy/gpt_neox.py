"""GPT-NeoX (arXiv 2204.06745) and Pythia: rotary positions, LayerNorm, q k v in one product, attention and MLP in parallel.

With `use_parallel_residual` (the family's default) both blocks read resid_pre and both are added to it; without, the MLP
reads the stream after attention, resid_mid.
"""

from typing import Any

from actscope.core.site import Site, SiteInfo
from actscope.subjects._taps import HeadsTap, InterleavedTap, NormScaleTap, SharedTap, Tap, TurnedTap
from actscope.subjects.anatomy._anatomy import Anatomy, attend
from actscope.subjects.anatomy._decoder import NO_EXPERTS, PARALLEL

__all__ = ["gpt_neox"]


def gpt_neox(config: Any) -> Anatomy:
    """The sites of a GPTNeoXForCausalLM with this config."""
    width, eps = config.hidden_size, config.layer_norm_eps
    stream, base = ("b", "t", width), "gpt_neox"
    taps: dict[Site, Tap] = {Site("embed"): _out(f"{base}.embed_in", stream)}
    for layer in range(config.num_hidden_layers):
        taps.update({Site(kind, layer): tap for kind, tap in _layer(config, f"{base}.layers.{layer}").items()})
    norm = f"{base}.final_layer_norm"
    taps[Site("final_norm_scale")] = NormScaleTap(SiteInfo(("b", "t", 1), norm, "computed"), "out", eps)
    taps[Site("final_norm")] = _out(norm, stream)
    taps[Site("logits")] = _out("lm_head", ("b", "t", config.vocab_size))
    missing = {**NO_EXPERTS, "mlp_up": "its MLP has no gate, so nothing is multiplied"}
    if config.use_parallel_residual:
        missing["resid_mid"] = PARALLEL
    attention = {f"{base}.layers.{layer}.attention": layer for layer in range(config.num_hidden_layers)}
    return Anatomy(
        taps, missing, attention, attend, config.max_position_embeddings, parallel=bool(config.use_parallel_residual)
    )


def _layer(config: Any, path: str) -> dict[str, Tap]:
    width, eps, inner = config.hidden_size, config.layer_norm_eps, config.intermediate_size
    stream = ("b", "t", width)
    heads = ("b", "t", config.num_attention_heads, width // config.num_attention_heads)
    maps = ("b", heads[2], "t", "t")
    attention, mlp = f"{path}.attention", f"{path}.mlp"
    qkv = SiteInfo(heads, f"{attention}.query_key_value", "computed")
    scale = ("b", "t", 1)
    before, middle = f"{path}.input_layernorm", f"{path}.post_attention_layernorm"
    taps: dict[str, Tap] = {
        "resid_pre": _in(path, stream),
        "attn_norm_scale": NormScaleTap(SiteInfo(scale, before, "computed"), "out", eps),
        "attn_in": _out(before, stream),
        **{kind: InterleavedTap(qkv, "out", index) for index, kind in enumerate(("q", "k", "v"))},
        **{kind: TurnedTap(SiteInfo(heads, attention, "computed"), kind) for kind in ("q_rot", "k_rot")},
        **{kind: Tap(SiteInfo(maps, attention, "computed"), kind) for kind in ("attn_scores", "attn_pattern")},
        "z": HeadsTap(SiteInfo(heads, f"{attention}.dense", "in"), "in"),
        "attn_out": _out(f"{attention}.dense", stream),
        "attn_add": _out(f"{path}.post_attention_dropout", stream),
        "resid_mid": SharedTap(SiteInfo(stream, middle, "in"), "in"),
        "mlp_norm_scale": NormScaleTap(SiteInfo(scale, middle, "computed"), "out", eps),
        "mlp_in": _out(middle, stream),
        "mlp_pre": _out(f"{mlp}.dense_h_to_4h", ("b", "t", inner)),
        "mlp_post": _in(f"{mlp}.dense_4h_to_h", ("b", "t", inner)),
        "mlp_out": _out(f"{mlp}.dense_4h_to_h", stream),
        "mlp_add": _out(f"{path}.post_mlp_dropout", stream),
        "resid_post": _out(path, stream),
    }
    if config.use_parallel_residual:
        del taps["resid_mid"]
    return taps


def _in(path: str, shape: tuple) -> Tap:
    return Tap(SiteInfo(shape, path, "in"), "in")


def _out(path: str, shape: tuple) -> Tap:
    return Tap(SiteInfo(shape, path, "out"), "out")
