"""What is read is what the model computes, and what is written is really there."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from actscope.core.intervention import Replace
from actscope.core.site import HEAD_KINDS, MAP_KINDS, Site
from actscope.subjects._clone import clone
from actscope.subjects._proof.case import LOGITS, NEAR, Case, far, padded, parts, real

NONLINEAR: tuple[Callable[[Tensor], Tensor], ...] = (
    functional.silu, functional.gelu, lambda x: functional.gelu(x, approximate="tanh"), functional.relu,
    lambda x: functional.relu(x).square(), lambda x: x * torch.sigmoid(1.702 * x), torch.tanh, functional.mish,
)  # fmt: skip


def boundaries_are_bitwise_plain_hooks(case: Case) -> None:
    """Every site at a module's side is bitwise what a plain hook on the untouched model gives."""
    if case.model is None:
        return
    subject = case.subject
    sites = [site for site in subject.order if subject.sites[site].side != "computed"]
    seen: dict[tuple[str, str], Tensor] = {}
    modules = dict(case.model.named_modules())
    handles = []
    for site in sites:
        info = subject.sites[site]
        handles.append(_plain_hook(modules[info.module], (info.module, info.side), seen))
    try:
        with torch.no_grad():
            case.model(case.ids, **case.uncached)
    finally:
        for handle in handles:
            handle.remove()
    together = subject.run(case.ids, read=sites).acts
    for site in sites:
        info = subject.sites[site]
        expected = seen[info.module, info.side]
        alone = subject.run(case.ids, read=[site]).acts[site]
        for found in (alone, together[site]):
            case.same(found.reshape(expected.shape), expected, site, why=f"it differs from a plain hook on {info.module}")


def _plain_hook(module: nn.Module, key: tuple[str, str], seen: dict) -> Any:
    if key[1] == "in":
        return module.register_forward_pre_hook(
            lambda _m, args, given: seen.__setitem__(key, args[0] if args else given["hidden_states"]) or None, with_kwargs=True
        )
    return module.register_forward_hook(
        lambda _m, _a, out: seen.__setitem__(key, out if isinstance(out, Tensor) else out[0]) or None
    )


def attention_is_bitwise_the_eager_models(case: Case) -> None:
    """attn_pattern is bitwise what the model's own eager attention gives out, alone and beside other sites."""
    if case.model is None or not case.has("attn_pattern") or not hasattr(case.model, "config"):
        return
    eager: Any = clone(case.model)
    eager.config._attn_implementation = "eager"
    with torch.no_grad():
        expected = eager(case.ids, output_attentions=True, **case.uncached).attentions
    every = case.subject.run(case.ids, read=case.subject.order).acts
    for layer in case.layers:
        site = Site("attn_pattern", layer)
        case.same(case.read(site)[site], expected[layer], site, why="it is not the eager model's")
        case.same(every[site], expected[layer], site, why="read with all others, it is not the eager model's")


def softmax_of_scores_is_bitwise_the_pattern(case: Case) -> None:
    if not case.has("attn_scores", "attn_pattern"):
        return
    for layer in case.layers:
        acts = case.read(Site("attn_scores", layer), Site("attn_pattern", layer))
        scores, pattern = acts[Site("attn_scores", layer)], acts[Site("attn_pattern", layer)]
        case.same(scores.softmax(-1, dtype=torch.float32).to(pattern), pattern, *acts, why="softmax of one is not the other")


def scales_rebuild_the_norms(case: Case) -> None:
    """A norm's input over its scale, times its weight (plus its bias), is its output."""
    pairs = [("attn_norm_scale", "resid_pre", "attn_in"), ("mlp_norm_scale", "", "mlp_in")]
    sites = case.subject.sites
    triples = []
    for layer in case.layers:
        for scale, before, after in pairs:
            source = before or ("resid_mid" if Site("resid_mid", layer) in sites else "resid_pre")
            triples.append((Site(scale, layer), Site(source, layer), Site(after, layer)))
    last = Site("resid_post", case.layers[-1]) if case.layers else LOGITS
    triples.append((Site("final_norm_scale"), last, Site("final_norm")))
    for scale, source, after in triples:
        if not {scale, source, after} <= set(sites):
            continue
        acts = case.read(scale, source, after)
        wanted = acts[after]
        found = min(_normed(case, acts[source], acts[scale], scale), key=lambda rebuilt: far(rebuilt, wanted))
        case.near(found, wanted, scale, source, after, why="the scale does not rebuild the norm")


def _normed(case: Case, x: Tensor, scale: Tensor, site: Site) -> list[Tensor]:
    """A norm's output from its input and scale: of norms that multiply by their weight, and of those that add 1 to it first."""
    weight, bias = case.weight(site), case.weight(site, "bias")
    assert weight is not None, f"{case.subject.sites[site].module} has no weight"
    x = (x - x.mean(-1, keepdim=True) if bias is not None else x) / scale
    return [x * weight + (0 if bias is None else bias), x * (1 + weight)]


def own_value_written_back_changes_nothing(case: Case) -> None:
    """Logits bit-identical at module boundaries, within 1e-5 relative elsewhere; also for single heads."""
    subject = case.subject
    plain = subject.run(case.ids).logits
    assert plain is not None
    for site in [*subject.order, *parts(case)]:
        own = subject.run(case.ids, read=[site]).acts[site]
        logits = subject.run(case.ids, read=[LOGITS], write=[Replace(site, own)]).logits
        assert logits is not None
        compare = case.near if subject.sites[site.whole].side == "computed" else case.same
        compare(logits, plain, site, why="written back, it moved the logits")


def another_value_written_changes_the_logits(case: Case) -> None:
    """The control of the check above: the write is really made, and a read returns it."""
    subject = case.subject
    plain = subject.run(case.ids).logits
    assert plain is not None
    noise = torch.Generator().manual_seed(3)
    sites = [*subject.order, *parts(case)]
    every = subject.run(case.ids, read=sites).acts
    for site in sites:
        own = every[site]
        other = own * (1.5 + torch.rand(own.shape, generator=noise)).to(own)
        run = subject.run(case.ids, read=[site, LOGITS], write=[Replace(site, other)])
        assert run.logits is not None
        case.same(run.acts[site], other, site, why="a read does not return what was written")
        case.true(far(run.logits, plain) > 10 * NEAR, site, why="what is written there does not reach the logits")


def a_head_is_one_part_of_its_site(case: Case) -> None:
    for site in parts(case):
        axis = 1 if site.kind in MAP_KINDS else 2
        whole = case.read(site.whole)[site.whole]
        case.same(case.read(site)[site], whole.select(axis, site.part or 0), site, why="it is another part of the whole")
        written = case.subject.run(case.ids, read=[site.whole], write=[Replace(site, torch.zeros(()))]).acts[site.whole]
        expected = whole.clone()
        expected.select(axis, site.part or 0).zero_()
        case.same(written, expected, site, why="what is written there touches other parts")


def pattern_times_values_is_z(case: Case) -> None:
    if not case.has("attn_pattern", "v", "z"):
        return
    for layer in case.layers:
        acts = case.read(*(Site(kind, layer) for kind in ("attn_pattern", "v", "z")))
        pattern, v, z = (acts[Site(kind, layer)] for kind in ("attn_pattern", "v", "z"))
        v = v.repeat_interleave(z.shape[2] // v.shape[2], dim=2)
        case.near(torch.einsum("bhts,bshd->bthd", pattern, v), z, *acts, why="pattern times values is not z")
        native = case.site("z", layer)  # without attention in the open
        case.near(z, native, Site("z", layer), why="it moves when attention is read")


def queries_times_keys_are_scores(case: Case) -> None:
    """Rotated queries times keys, scaled, are the scores where a token may look; unrotated ones agree at position 0, where
    a model whose keys exist only rotated (latent attention) may lay the numbers of a query out in another order."""
    turned, bare = case.has("q_rot", "k_rot"), case.has("q", "k")
    if not case.has("attn_scores") or not (turned or bare):
        return
    for layer in case.layers:
        scores_at = Site("attn_scores", layer)
        kinds = [kind for kind in ("q", "k", "q_rot", "k_rot") if Site(kind, layer) in case.subject.sites]
        acts = case.read(scores_at, *(Site(kind, layer) for kind in kinds))
        scores = acts[scores_at]
        q, k = (acts[Site(kind, layer)] for kind in (("q_rot", "k_rot") if turned else ("q", "k")))
        product = torch.einsum("bthd,bshd->bhts", q, k.repeat_interleave(q.shape[2] // k.shape[2], dim=2))
        product = _scaled(case, product, q.shape[-1], scores_at)
        seen = _seen(case, scores, scores_at)
        case.near(product.masked_fill(~seen, 0), scores.masked_fill(~seen, 0), *acts, why="queries times keys are not scores")
        for kind, after in (("q", q), ("k", k)):
            if (site := Site(kind, layer)) in acts:
                first, before = after[:, 0], acts[site][:, 0]
                first, before = (first, before) if bare else (first.sort().values, before.sort().values)
                case.near(first, before, site, why="turned at position 0, it is not itself")


def _scaled(case: Case, product: Tensor, width: int, site: Site) -> Tensor:
    """As the attention module says: its own factor, and the cap of a model that has one."""
    if case.model is None:
        return product * width**-0.5
    module = case.model.get_submodule(case.subject.sites[site].module)
    product = product * getattr(module, "scaling", width**-0.5)
    cap = getattr(module, "attn_logit_softcapping", None)
    return product if cap is None else (product / cap).tanh() * cap


def _seen(case: Case, scores: Tensor, site: Site) -> Tensor:
    """Where a token may look: itself and all before it, or the last of them where the model has a window."""
    seen, causal = scores > -1e4, torch.ones(scores.shape[2:], dtype=torch.bool).tril()
    case.true(not bool((seen & ~causal).any()), site, why="scores are not masked: a token sees those after it")
    case.true(bool(seen.diagonal(dim1=-2, dim2=-1).all()), site, why="a token does not see itself")
    if getattr(getattr(case.model, "config", None), "sliding_window", None) is None:
        case.true(bool((seen == causal).all()), site, why="a token does not see all before it")
    return seen


def the_stream_is_the_sum_of_what_is_added(case: Case) -> None:
    if not case.has("resid_pre", "attn_add", "mlp_add", "resid_post"):
        return
    every = case.read(*(site for site in case.subject.order if site.kind.startswith("resid") or site.kind.endswith("_add")))
    for layer in case.layers:
        sites = [Site(kind, layer) for kind in ("resid_pre", "attn_add", "mlp_add")]
        added, after, middle = [every[site] for site in sites], Site("resid_post", layer), Site("resid_mid", layer)
        case.near(added[0] + added[1] + added[2], every[after], *sites, after, why="the stream is not the sum of what is added")
        if middle in every:
            case.near(added[0] + added[1], every[middle], *sites[:2], middle, why="the stream is not the sum of what is added")
        if (following := Site("resid_pre", layer + 1)) in every:
            case.same(every[after], every[following], after, following, why="a layer does not begin where the last one ends")


def the_sum_holds_after_writes(case: Case) -> None:
    """Whatever is written to the stream or to what is added to it, resid_post is still their sum: writes reach every path."""
    if not case.has("resid_pre", "attn_add", "mlp_add", "resid_post"):
        return
    layer = case.layers[0]
    kinds = [kind for kind in ("resid_pre", "attn_add", "resid_mid", "mlp_add") if Site(kind, layer) in case.subject.sites]
    streams = [Site(kind, layer) for kind in (*kinds, "resid_post")]
    for site in streams[:-1]:
        own = case.read(site)[site]
        other = torch.randn(own.shape, generator=torch.Generator().manual_seed(2)).to(own)
        acts = case.subject.run(case.ids, read=streams, write=[Replace(site, other)]).acts
        start = acts[site] if site.kind == "resid_mid" else acts[streams[0]] + acts[Site("attn_add", layer)]
        found = start + acts[Site("mlp_add", layer)]
        case.near(found, acts[streams[-1]], site, why="what is written there misses a path to resid_post")


def last_products_rebuild_their_outputs(case: Case) -> None:
    """mlp_post @ W + b = mlp_out, z @ W + b = attn_out, and the last residual gives the logits."""
    for source, out in (("mlp_post", "mlp_out"), ("z", "attn_out")):
        for layer in case.having(source, out):
            acts = case.read(Site(source, layer), Site(out, layer))
            x = acts[Site(source, layer)]
            x = x.flatten(2) if source in HEAD_KINDS else x
            case.near(
                _product(case, x, Site(out, layer)), acts[Site(out, layer)], *acts, why="times the weights it is not the other"
            )
    norm, scale = Site("final_norm"), Site("final_norm_scale")
    if case.layers and {norm, scale, LOGITS} <= set(case.subject.sites):
        last = Site("resid_post", case.layers[-1])
        acts = case.read(last, scale, LOGITS)
        rebuilt = [_product(case, x, LOGITS) for x in _normed(case, acts[last], acts[scale], norm)]
        found = min(rebuilt, key=lambda logits: far(logits, acts[LOGITS]))
        case.near(found, acts[LOGITS], last, scale, LOGITS, why="the last residual does not give the logits")


def a_nonlinearity_joins_pre_and_post(case: Case) -> None:
    """mlp_post is one of the usual functions of mlp_pre, number by number, times mlp_up where there is one."""
    for layer in case.having("mlp_pre", "mlp_post"):
        kinds = [kind for kind in ("mlp_pre", "mlp_up") if Site(kind, layer) in case.subject.sites]
        acts = case.read(*(Site(kind, layer) for kind in (*kinds, "mlp_post")))
        before, *gated, after = acts.values()
        found = [function(before) * (gated[0] if gated else 1) for function in NONLINEAR]
        case.near(min(found, key=lambda one: far(one, after)), after, *acts, why="no usual function makes one of the other")


def padding_and_company_do_not_matter(case: Case) -> None:
    """Left or right padding, and the other rows of a batch, move the values at real tokens by at most 1e-5 relative."""
    sites = [site for site in case.subject.order if site.kind != "attn_scores"]
    for side in ("right", "left"):
        inputs = padded(case, side)
        assert inputs.mask is not None
        acts = case.subject.run(inputs, read=sites).acts
        for row, kept in enumerate(inputs.mask.sum(1).tolist()):
            alone = case.subject.run(case.ids[row : row + 1, :kept], read=sites).acts
            for site in sites:
                found = real(acts[site][row : row + 1], site, inputs.mask[row : row + 1])[0]
                case.near(found, alone[site][0], site, why=f"it moves in a batch padded on the {side}")


@torch.no_grad()
def _product(case: Case, x: Tensor, site: Site) -> Tensor:
    """What the model's own product gives for x, capped where these are logits that the model caps."""
    path = case.subject.sites[site].module
    if case.model is not None:
        product = case.model.get_submodule(path) if path else case.model.get_output_embeddings()
        cap = getattr(getattr(case.model, "config", None), "final_logit_softcapping", None) if site == LOGITS else None
        return product(x) if cap is None else (product(x) / cap).tanh() * cap
    weight, bias = case.weight(site), case.weight(site, "bias")
    assert weight is not None, f"{path} has no weight"
    return x @ weight.T + (0 if bias is None else bias)


READING = (
    boundaries_are_bitwise_plain_hooks,
    attention_is_bitwise_the_eager_models,
    softmax_of_scores_is_bitwise_the_pattern,
    scales_rebuild_the_norms,
    own_value_written_back_changes_nothing,
    another_value_written_changes_the_logits,
    a_head_is_one_part_of_its_site,
    pattern_times_values_is_z,
    queries_times_keys_are_scores,
    the_stream_is_the_sum_of_what_is_added,
    the_sum_holds_after_writes,
    last_products_rebuild_their_outputs,
    a_nonlinearity_joins_pre_and_post,
    padding_and_company_do_not_matter,
)
