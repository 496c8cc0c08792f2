"""Encoders whose norms stand on the stream itself, after each block's output was added (post-norm, as BERT has them).

A block reads the stream as it is: attn_in is resid_pre and mlp_in is resid_mid, each by itself, so that a write there reaches
the block alone. attn_norm_scale and mlp_norm_scale are those of the norms after the blocks: resid_mid is the norm of
resid_pre + attn_add, and resid_post that of resid_mid + mlp_add.
"""

from dataclasses import dataclass

from actscope.core.site import Site, SiteInfo
from actscope.subjects._taps import HeadsTap, NormScaleTap, Tap
from actscope.subjects.anatomy._anatomy import Anatomy, attend
from actscope.subjects.anatomy._decoder import NO_EXPERTS, Sizes


@dataclass(frozen=True)
class PostNames:
    """Module paths: of the whole below `base`, of a layer's parts below the layer; head: what gives the logits. attention: the
    module that attends, which its queries, keys and values stand in; attn_add, mlp_add: what is added to the stream."""

    base: str
    head: str
    layers: str = "encoder.layer"
    embed: str = "embeddings.word_embeddings"
    attention: str = "attention.self"
    q: str = "query"
    k: str = "key"
    v: str = "value"
    out: str = "attention.output.dense"
    attn_add: str = "attention.output.dropout"
    attn_norm: str = "attention.output.LayerNorm"
    up: str = "intermediate.dense"
    down: str = "output.dense"
    mlp_add: str = "output.dropout"
    mlp_norm: str = "output.LayerNorm"


def encoder(sizes: Sizes, names: PostNames, eps: float, *, classes: tuple[str, ...], first_position: int = 0) -> Anatomy:
    """The sites of such a model. eps: of its norms. classes, first_position: as Anatomy takes them."""
    taps: dict[Site, Tap] = {Site("embed"): _tap(f"{names.base}.{names.embed}", "out", sizes.width)}
    attention: dict[str, int] = {}
    for layer in range(sizes.layers):
        path = f"{names.base}.{names.layers}.{layer}"
        taps |= {Site(kind, layer): tap for kind, tap in _layer(sizes, names, eps, path).items()}
        attention[f"{path}.{names.attention}"] = layer
    taps[Site("logits")] = _tap(names.head, "out", sizes.vocabulary)
    missing = {
        **NO_EXPERTS,
        "mlp_up": "its MLP has no gate, so nothing is multiplied",
        **dict.fromkeys(("q_rot", "k_rot"), "its positions do not turn queries and keys"),
        **dict.fromkeys(("final_norm", "final_norm_scale"), "its last norm is that of its last layer; see mlp_norm_scale"),
    }
    return Anatomy(
        taps, missing, attention, attend, sizes.context, causal=False, told=("attention_mask", "position_ids"), classes=classes,
        first_position=first_position,
    )  # fmt: skip


def _layer(sizes: Sizes, names: PostNames, eps: float, path: str) -> dict[str, Tap]:
    """In the order of computation."""
    heads, maps = ("b", "t", sizes.heads, sizes.head), ("b", sizes.heads, "t", "t")
    attention, out = f"{path}.{names.attention}", f"{path}.{names.out}"
    projections = {kind: f"{attention}.{name}" for kind, name in (("q", names.q), ("k", names.k), ("v", names.v))}
    return {
        "resid_pre": _tap(path, "in", sizes.width),
        "attn_in": _tap(attention, "in", sizes.width),
        **{kind: HeadsTap(SiteInfo(heads, place, "out"), "out") for kind, place in projections.items()},
        **{kind: Tap(SiteInfo(maps, attention, "computed"), kind) for kind in ("attn_scores", "attn_pattern")},
        "z": HeadsTap(SiteInfo(heads, out, "in"), "in"),
        "attn_out": _tap(out, "out", sizes.width),
        "attn_add": _tap(f"{path}.{names.attn_add}", "out", sizes.width),
        "attn_norm_scale": _scale(f"{path}.{names.attn_norm}", eps),
        "resid_mid": _tap(f"{path}.{names.attn_norm}", "out", sizes.width),
        "mlp_in": _tap(f"{path}.{names.up}", "in", sizes.width),
        "mlp_pre": _tap(f"{path}.{names.up}", "out", sizes.inner),
        "mlp_post": _tap(f"{path}.{names.down}", "in", sizes.inner),
        "mlp_out": _tap(f"{path}.{names.down}", "out", sizes.width),
        "mlp_add": _tap(f"{path}.{names.mlp_add}", "out", sizes.width),
        "mlp_norm_scale": _scale(f"{path}.{names.mlp_norm}", eps),
        "resid_post": _tap(f"{path}.{names.mlp_norm}", "out", sizes.width),
    }


def _tap(path: str, side: str, width: int) -> Tap:
    return Tap(SiteInfo(("b", "t", width), path, "in" if side == "in" else "out"), side)


def _scale(path: str, eps: float) -> Tap:
    return NormScaleTap(SiteInfo(("b", "t", 1), path, "computed"), "out", eps)
