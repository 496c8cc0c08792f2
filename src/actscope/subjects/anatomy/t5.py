"""T5 (arXiv 1910.10683): an encoder that sees all of a text and a decoder that reads it across; RMSNorm before each block.

Scores are not scaled; what is added for the distance of two tokens (counted in slots, the same in every layer of a stack) is
part of them. Logits stand without a stack: they are the model's, after its decoder.
"""

import sys
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from actscope.core.errors import NotAModel
from actscope.core.site import Site, SiteInfo
from actscope.subjects._taps import HeadsTap, NormScaleTap, Tap
from actscope.subjects.anatomy._anatomy import Anatomy, Visit
from actscope.subjects.anatomy._decoder import NO_EXPERTS

__all__ = ["t5"]

CLASSES = ("T5ForConditionalGeneration", "T5Model", "T5EncoderModel")


def t5(config: Any) -> Anatomy:
    """The sites of a T5ForConditionalGeneration, T5Model or T5EncoderModel with this config. Raises NotAModel without a token
    for the decoder to begin with."""
    start = config.decoder_start_token_id if config.decoder_start_token_id is not None else config.pad_token_id
    if start is None:
        raise NotAModel("This T5 has neither decoder_start_token_id nor pad_token_id; its decoder has nothing to begin with.")
    taps: dict[Site, Tap] = {}
    attention: dict[str, int] = {}
    for stack, letter, layers in (("encoder", "t", config.num_layers), ("decoder", "u", config.num_decoder_layers)):
        stream = ("b", letter, config.d_model)
        taps[Site("embed", stack=stack)] = _out(f"{stack}.embed_tokens", stream)
        for layer in range(layers):
            path = f"{stack}.block.{layer}"
            taps |= {Site(kind, layer, stack=stack): tap for kind, tap in _layer(config, path, letter).items()}
            attention[f"{path}.layer.0.SelfAttention"] = layer
            if stack == "decoder":
                attention[f"{path}.layer.1.EncDecAttention"] = layer
        norm = f"{stack}.final_layer_norm"
        taps[Site("final_norm_scale", stack=stack)] = _scale(config, norm, letter)
        taps[Site("final_norm", stack=stack)] = _out(norm, stream)
    taps[Site("logits")] = _out("lm_head", ("b", "u", config.vocab_size))
    missing = {**NO_EXPERTS, **dict.fromkeys(("q_rot", "k_rot"), "its positions do not turn queries and keys")}
    if not config.is_gated_act:
        missing["mlp_up"] = "its MLP has no gate, so nothing is multiplied"
    return Anatomy(
        taps,
        missing,
        attention,
        _attend,
        context=sys.maxsize,
        classes=CLASSES,
        told=("attention_mask", "use_cache"),
        start=start,
    )


def _layer(config: Any, path: str, letter: str) -> dict[str, Tap]:
    """In the order of computation. letter: of the axis that counts this stack's tokens."""
    stream, inner = ("b", letter, config.d_model), ("b", letter, config.d_ff)
    last = 1 if letter == "t" else 2
    mlp = f"{path}.layer.{last}"
    product = f"{mlp}.DenseReluDense"
    taps = {"resid_pre": _in(path, stream)}
    taps |= _block(config, f"{path}.layer.0", "SelfAttention", (letter, letter), "attn", "")
    if letter == "u":
        taps["resid_cross"] = _in(f"{path}.layer.1", stream)
        taps |= _block(config, f"{path}.layer.1", "EncDecAttention", (letter, "t"), "cross", "cross_")
    taps |= {
        "resid_mid": _in(mlp, stream),
        "mlp_norm_scale": _scale(config, f"{mlp}.layer_norm", letter),
        "mlp_in": _out(f"{mlp}.layer_norm", stream),
    }
    if config.is_gated_act:
        taps |= {"mlp_pre": _out(f"{product}.wi_0", inner), "mlp_up": _out(f"{product}.wi_1", inner)}
    else:
        taps["mlp_pre"] = _out(f"{product}.wi", inner)
    return taps | {
        "mlp_post": _in(f"{product}.wo", inner),
        "mlp_out": _out(f"{product}.wo", stream),
        "mlp_add": _out(f"{mlp}.dropout", stream),
        "resid_post": _out(path, stream),
    }


def _block(config: Any, path: str, name: str, letters: tuple[str, str], block: str, prefix: str) -> dict[str, Tap]:
    """Attention of one kind. letters: of the tokens that look and of those looked at."""
    here, there = letters
    module, stream = f"{path}.{name}", ("b", here, config.d_model)
    maps = ("b", config.num_heads, here, there)

    def heads(letter: str) -> tuple:
        return ("b", letter, config.num_heads, config.d_kv)

    return {
        f"{block}_norm_scale": _scale(config, f"{path}.layer_norm", here),
        f"{block}_in": _out(f"{path}.layer_norm", stream),
        f"{prefix}q": HeadsTap(SiteInfo(heads(here), f"{module}.q", "out"), "out"),
        f"{prefix}k": HeadsTap(SiteInfo(heads(there), f"{module}.k", "out"), "out"),
        f"{prefix}v": HeadsTap(SiteInfo(heads(there), f"{module}.v", "out"), "out"),
        **{f"{block}_{kind}": Tap(SiteInfo(maps, module, "computed"), f"attn_{kind}") for kind in ("scores", "pattern")},
        f"{prefix}z": HeadsTap(SiteInfo(heads(here), f"{module}.o", "in"), "in"),
        f"{block}_out": _out(f"{module}.o", stream),
        f"{block}_add": _out(f"{path}.dropout", stream),
    }


def _attend(
    module: nn.Module,
    query: Float[Tensor, "b h t dh"],
    key: Float[Tensor, "b h s dh"],
    value: Float[Tensor, "b h s dh"],
    mask: Float[Tensor, "..."] | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    position_bias: Float[Tensor, "..."] | None = None,
    visit: Visit,
) -> tuple[Float[Tensor, "b t h dh"], Float[Tensor, "b h t s"]]:
    """The family's own order: the bias for distance, then the mask. The pattern is in the type of the scores."""
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling
    if position_bias is not None:
        scores = scores + position_bias
    if mask is not None:
        scores = scores + mask
    pattern = visit("attn_pattern", nn.functional.softmax(visit("attn_scores", scores), dim=-1))
    weights = nn.functional.dropout(pattern, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), pattern


def _scale(config: Any, path: str, letter: str) -> Tap:
    return NormScaleTap(SiteInfo(("b", letter, 1), path, "computed"), "out", config.layer_norm_epsilon, centred=False)


def _in(path: str, shape: tuple) -> Tap:
    return Tap(SiteInfo(shape, path, "in"), "in")


def _out(path: str, shape: tuple) -> Tap:
    return Tap(SiteInfo(shape, path, "out"), "out")
