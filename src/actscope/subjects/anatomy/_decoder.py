"""Decoders made of the same parts under other names: a stream to which each layer's attention and MLP are added, in turn or
both at once.

A family's file says what its modules are called and which parts it has; the sites follow from that.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from actscope.core.site import Site, SiteInfo
from actscope.subjects._taps import ColumnsTap, ExpertsTap, HeadsTap, NormScaleTap, SharedTap, SliceTap, Tap, TurnedTap
from actscope.subjects.anatomy._anatomy import Anatomy, attend

NO_EXPERTS = {
    "router": "it has no experts to route to",
    "router_weight": "it has no experts to route to",
    "expert_out": "it has no experts",
    "shared_out": "it has no experts",
    "shared_gate": "it has no experts",
}

PARALLEL = "attention and MLP both read resid_pre (parallel residual), so no stream stands between them"


Columns = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Norm:
    """eps: added under the root. centred: LayerNorm, else RMSNorm. offset: added to the weight before it multiplies."""

    eps: float
    centred: bool = False
    offset: float = 0.0


@dataclass(frozen=True)
class Names:
    """Module paths: of the whole below `base`, of a layer's parts below the layer. None for a part that is not there.

    attn_norm, mlp_norm: what stands before a block, which may be one norm for both; attn_add, mlp_add: what its output goes
    through before it is added to the stream. q_norm, k_norm: on queries and keys before they are turned, over [b t h*dh]
    ("flat"), [b t h dh] ("heads") or [b h t dh] ("turned") as `q_norm_on` says. qkv: one product that gives q, k and v side by
    side. gate_up: one that gives gate and up. gate: None for an MLP without a gate, whose first product is then `up`. Columns:
    of q, k and v, and of gate and up, in their common product where they do not stand side by side in that order.
    """

    base: str = "model"
    layers: str = "layers"
    embed: str = "embed_tokens"
    final: str = "norm"
    attention: str = "self_attn"
    attn_norm: str | None = "input_layernorm"
    q: str = "self_attn.q_proj"
    k: str = "self_attn.k_proj"
    v: str = "self_attn.v_proj"
    qkv: str | None = None
    q_norm: str | None = None
    k_norm: str | None = None
    q_norm_on: Literal["flat", "heads", "turned"] = "heads"
    out: str = "self_attn.o_proj"
    attn_add: str | None = None
    mlp: str = "mlp"
    mlp_norm: str | None = "post_attention_layernorm"
    gate: str | None = "mlp.gate_proj"
    up: str = "mlp.up_proj"
    gate_up: str | None = None
    down: str = "mlp.down_proj"
    mlp_add: str | None = None
    qkv_columns: Columns = ()
    gate_up_columns: Columns = ()


@dataclass(frozen=True)
class Experts:
    """The layers that have experts in place of one MLP, and how many each. Paths below the layer: `router` gives the logits,
    `experts` holds them all, `shared` is what every token goes through beside them, `shared_gate` gives the logit of what that
    is multiplied by; None for a part that is not there. shared_first: it runs before the router, else after the experts.
    """

    layers: Collection[int]
    count: int
    router: str = "mlp.gate"
    experts: str = "mlp.experts"
    shared: str | None = None
    shared_gate: str | None = None
    shared_first: bool = False


@dataclass(frozen=True)
class Sizes:
    """layers, width d, heads h, kv: heads of keys and values, head: dh, inner: f, vocabulary, context in tokens."""

    layers: int
    width: int
    heads: int
    kv: int
    head: int
    inner: int
    vocabulary: int
    context: int


def sizes(config: Any) -> Sizes:
    """From the names that most configs use. Without an `intermediate_size` the MLP is as wide as `n_inner` says, or 4 d."""
    heads = config.num_attention_heads
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * config.hidden_size
    return Sizes(
        config.num_hidden_layers,
        config.hidden_size,
        heads,
        getattr(config, "num_key_value_heads", None) or heads,
        getattr(config, "head_dim", None) or config.hidden_size // heads,
        inner,
        config.vocab_size,
        config.max_position_embeddings,
    )


def windows(config: Any) -> Mapping[str, int | None] | None:
    """Of configs that give each layer a type, where some of these look at a window."""
    if "sliding_attention" not in (config.layer_types or ()):
        return None
    return {"full_attention": None, "sliding_attention": config.sliding_window}


def sparse_layers(config: Any) -> list[int]:
    """The layers with experts, of configs that leave out some and take every so many of the rest."""
    step, plain = config.decoder_sparse_step, config.mlp_only_layers or ()
    layers = range(config.num_hidden_layers) if config.num_experts else ()
    return [layer for layer in layers if layer not in plain and (layer + 1) % step == 0]


def decoder(
    sizes: Sizes,
    names: Names,
    norm: Norm,
    *,
    rotary: bool = True,
    parallel: bool = False,
    capped: bool = False,
    experts: Experts | None = None,
    head: tuple[str, tuple] | None = None,
    **more: Any,
) -> Anatomy:
    """The sites of such a model. rotary: positions turn queries and keys. parallel: attention and MLP both read the stream as
    it comes in. capped: the model does something to the logits after its last product. experts: where some layers have them.
    head: module and shape of the logits, where they are not those of the next token. more: as Anatomy takes it."""
    stream = ("b", "t", sizes.width)
    taps: dict[Site, Tap] = {Site("embed"): _out(f"{names.base}.{names.embed}", stream)}
    for layer in range(sizes.layers):
        path = f"{names.base}.{names.layers}.{layer}"
        block = None if experts is None or layer not in experts.layers else experts
        found = _layer(sizes, names, norm, path, rotary, parallel, block)
        taps.update({Site(kind, layer): tap for kind, tap in found.items()})
    final = f"{names.base}.{names.final}"
    taps[Site("final_norm_scale")] = _scale(final, norm)
    taps[Site("final_norm")] = _out(final, stream)
    taps[Site("logits")] = _out(*(head or ("" if capped else "lm_head", ("b", "t", sizes.vocabulary))))
    attention = {f"{names.base}.{names.layers}.{layer}.{names.attention}": layer for layer in range(sizes.layers)}
    given = {"attend": attend, **more}
    missing = _missing(names, rotary, parallel)
    beside = {} if experts is None else _missing_beside(experts, sizes.layers)
    missing = {kind: why for kind, why in (missing | beside).items() if why is not None}
    return Anatomy(taps, missing, attention, context=sizes.context, parallel=parallel, **given)


def _layer(
    sizes: Sizes, names: Names, norm: Norm, path: str, rotary: bool, parallel: bool, experts: Experts | None
) -> dict[str, Tap]:
    """In the order of computation."""
    stream = ("b", "t", sizes.width)
    maps = ("b", sizes.heads, "t", "t")
    attention, out, down = (f"{path}.{name}" for name in (names.attention, names.out, names.down))
    before, middle = names.attn_norm, names.mlp_norm
    shared = before is not None and before == middle
    taps: dict[str, Tap] = {"resid_pre": _in(path, stream)}
    if before:
        taps["attn_norm_scale"] = _scale(f"{path}.{before}", norm)
    taps["attn_in"] = _out(f"{path}.{before}", stream) if before and not shared else _in(attention, stream)
    taps |= _queries(sizes, names, path)
    if rotary:
        for kind, heads in (("q_rot", sizes.heads), ("k_rot", sizes.kv)):
            taps[kind] = TurnedTap(SiteInfo(("b", "t", heads, sizes.head), attention, "computed"), kind)
    taps |= {kind: Tap(SiteInfo(maps, attention, "computed"), kind) for kind in ("attn_scores", "attn_pattern")}
    taps |= {"z": HeadsTap(SiteInfo(("b", "t", sizes.heads, sizes.head), out, "in"), "in"), "attn_out": _out(out, stream)}
    taps["attn_add"] = _out(f"{path}.{names.attn_add or names.out}", stream)
    if not parallel:
        taps["resid_mid"] = SharedTap(SiteInfo(stream, f"{path}.{middle or names.mlp}", "in"), "in")
    if shared:
        taps["mlp_in"] = _in(f"{path}.{names.mlp}", stream)
    elif middle:
        taps |= {"mlp_norm_scale": _scale(f"{path}.{middle}", norm), "mlp_in": _out(f"{path}.{middle}", stream)}
    if experts:
        down = f"{path}.{names.mlp}"
        taps |= _mixture(sizes, experts, path)
    else:
        taps |= {**_mlp(sizes, names, path), "mlp_post": _in(down, ("b", "t", sizes.inner))}
    taps |= {"mlp_out": _out(down, stream), "mlp_add": _out(f"{path}.{names.mlp_add}" if names.mlp_add else down, stream)}
    return taps | {"resid_post": _out(path, stream)}


def _queries(sizes: Sizes, names: Names, path: str) -> dict[str, Tap]:
    """q, k and v, after a norm of theirs and before they are turned."""
    counts = {"q": sizes.heads, "k": sizes.kv, "v": sizes.kv}
    shapes = {kind: ("b", "t", count, sizes.head) for kind, count in counts.items()}
    if names.qkv and names.qkv_columns:
        place = f"{path}.{names.qkv}"
        return {
            kind: ColumnsTap(SiteInfo(shapes[kind], place, "computed"), "out", columns)
            for kind, columns in zip(counts, names.qkv_columns, strict=True)
        }
    if names.qkv:
        ends = [count * sizes.head for count in counts.values()]
        starts = [sum(ends[:number]) for number in range(3)]
        place = f"{path}.{names.qkv}"
        return {
            kind: SliceTap(SiteInfo(shapes[kind], place, "computed"), "out", start)
            for kind, start in zip(counts, starts, strict=True)
        }
    taps: dict[str, Tap] = {}
    for kind, product, normed in (("q", names.q, names.q_norm), ("k", names.k, names.k_norm), ("v", names.v, None)):
        place, shape = f"{path}.{normed or product}", shapes[kind]
        if normed is None or names.q_norm_on == "flat":
            taps[kind] = HeadsTap(SiteInfo(shape, place, "out"), "out")
        elif names.q_norm_on == "heads":
            taps[kind] = _out(place, shape)
        else:
            taps[kind] = TurnedTap(SiteInfo(shape, place, "computed"), "out")
    if names.q_norm_on == "turned" and names.q_norm:  # then values are there before the norms of queries and keys
        return {kind: taps[kind] for kind in ("v", "q", "k")}
    return taps


def _mlp(sizes: Sizes, names: Names, path: str) -> dict[str, Tap]:
    """What enters the nonlinearity, and what its result is multiplied by."""
    inner = ("b", "t", sizes.inner)
    if names.gate_up:
        fused = SiteInfo(inner, f"{path}.{names.gate_up}", "computed")
        if names.gate_up_columns:
            kinds = zip(("mlp_pre", "mlp_up"), names.gate_up_columns, strict=True)
            return {kind: ColumnsTap(fused, "out", columns) for kind, columns in kinds}
        return {"mlp_pre": SliceTap(fused, "out", 0), "mlp_up": SliceTap(fused, "out", sizes.inner)}
    if names.gate:
        return {"mlp_pre": _out(f"{path}.{names.gate}", inner), "mlp_up": _out(f"{path}.{names.up}", inner)}
    return {"mlp_pre": _out(f"{path}.{names.up}", inner)}


def _mixture(sizes: Sizes, experts: Experts, path: str) -> dict[str, Tap]:
    """The router, the experts and what runs beside them, in the order of computation."""
    stream, each = ("b", "t", sizes.width), ("b", "t", experts.count)
    router, holder = f"{path}.{experts.router}", f"{path}.{experts.experts}"
    shared = {"shared_out": _out(f"{path}.{experts.shared}", stream)} if experts.shared else {}
    taps: dict[str, Tap] = {**shared} if experts.shared_first else {}
    taps["router"] = Tap(SiteInfo(each, router, "out"), "router")
    taps["router_weight"] = Tap(SiteInfo(each, holder, "computed"), "router_weight")
    taps["expert_out"] = ExpertsTap(SiteInfo((*each, sizes.width), holder, "computed"), "expert_out")
    if not experts.shared_first:
        taps |= shared
    if experts.shared_gate:
        taps["shared_gate"] = _out(f"{path}.{experts.shared_gate}", ("b", "t", 1))
    return taps


def _missing_beside(experts: Experts, layers: int) -> dict[str, str | None]:
    """Why layers with experts lack the parts of one MLP, and those without the parts of experts; None for what none lacks."""
    mixed, plain = sorted(experts.layers), sorted({*range(layers)} - {*experts.layers})
    if not mixed:
        return {}
    where = f"in {_named(mixed)} " if plain else ""
    only = f"only {_named(mixed)} {'has' if len(mixed) == 1 else 'have'} experts" if plain else None
    missing: dict[str, str | None] = dict.fromkeys(NO_EXPERTS, only)
    missing |= dict.fromkeys(("mlp_pre", "mlp_up", "mlp_post"), f"{where}experts stand in place of one MLP; see expert_out")
    if not experts.shared:
        missing["shared_out"] = "it has no expert that all tokens share"
    if not experts.shared_gate:
        missing["shared_gate"] = "its shared experts are added as they are" if experts.shared else missing["shared_out"]
    return missing


def _named(layers: Sequence[int]) -> str:
    """ "layer 3", "layers 1 to 60", "layers 1, 3, 5"."""
    first, last = layers[0], layers[-1]
    if first == last:
        return f"layer {first}"
    run = last - first + 1 == len(layers) > 2
    return f"layers {first} to {last}" if run else f"layers {', '.join(map(str, layers))}"


def _missing(names: Names, rotary: bool, parallel: bool) -> dict[str, str | None]:
    missing: dict[str, str | None] = dict(NO_EXPERTS)
    if parallel:
        missing["resid_mid"] = PARALLEL
    if not names.gate and not names.gate_up:
        missing["mlp_up"] = "its MLP has no gate, so nothing is multiplied"
    if not rotary:
        missing |= dict.fromkeys(("q_rot", "k_rot"), "its positions do not turn queries and keys")
    for kind, norm in (("attn", names.attn_norm), ("mlp", names.mlp_norm)):
        if not norm:
            missing[f"{kind}_norm_scale"] = "no norm stands before this block, only after it"
    if names.mlp_norm and names.mlp_norm == names.attn_norm:
        missing["mlp_norm_scale"] = "attention and MLP share one norm; see attn_norm_scale"
    if not names.mlp_norm:
        missing["mlp_in"] = "its MLP reads the stream as it is; see resid_mid"
    return missing


def _scale(path: str, norm: Norm) -> Tap:
    return NormScaleTap(SiteInfo(("b", "t", 1), path, "computed"), "out", norm.eps, norm.centred, norm.offset)


def _in(path: str, shape: tuple) -> Tap:
    return Tap(SiteInfo(shape, path, "in"), "in")


def _out(path: str, shape: tuple) -> Tap:
    return Tap(SiteInfo(shape, path, "out"), "out")
