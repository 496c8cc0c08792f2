"""What is read is what the model computes, and what is written is really there."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from actscope.core.inputs import Inputs
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
    sites = [site for site in case.order if subject.sites[site].side != "computed"]
    seen: dict[tuple[str, str], Tensor] = {}
    modules = dict(case.model.named_modules())
    handles = []
    for site in sites:
        info = subject.sites[site]
        handles.append(_plain_hook(modules[info.module], (info.module, info.side), seen))
    try:
        with torch.no_grad():
            case.native(case.model)
    finally:
        for handle in handles:
            handle.remove()
    together = case.read(*sites)
    for site in sites:
        info = subject.sites[site]
        expected = seen[info.module, info.side]
        alone = case.read(site)[site]
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
    for module in eager.modules():
        if hasattr(module, "config"):
            module.config._attn_implementation = "eager"
    with torch.no_grad():
        output = case.native(eager, output_attentions=True)
    every = case.subject.run(case.inputs, read=case.subject.order).acts
    given = {"attn_pattern": f"{case.stack}_attentions".lstrip("_"), "cross_pattern": "cross_attentions"}
    for kind, name in given.items():
        for layer in case.layers if case.has(kind) else ():
            site, expected = case.at(kind, layer), (getattr(output, name, None) or output.attentions)[layer]
            case.same(case.read(site)[site], expected, site, why="it is not the eager model's")
            case.same(every[site], expected, site, why="read with all others, it is not the eager model's")


def softmax_of_scores_is_bitwise_the_pattern(case: Case) -> None:
    for kinds in (("attn_scores", "attn_pattern"), ("cross_scores", "cross_pattern")):
        for layer in case.layers if case.has(*kinds) else ():
            acts = case.read(*(case.at(kind, layer) for kind in kinds))
            scores, pattern = acts.values()
            case.same(
                scores.softmax(-1, dtype=torch.float32).to(pattern), pattern, *acts, why="softmax of one is not the other"
            )


def scales_rebuild_the_norms(case: Case) -> None:
    """A norm's input over its scale, times its weight (plus its bias), is its output."""
    sites = case.subject.sites
    before = {"attn": "resid_pre", "cross": "resid_cross", "mixer": "resid_pre", "mlp": "resid_mid"}
    triples = []
    for layer in case.layers:
        steps = {step.norm: step for step in steps_of_the_stream(case, layer) if step.norm is not None}
        for block, source in before.items():
            scale, after = case.at(f"{block}_norm_scale", layer), case.at(f"{block}_in", layer)
            if scale in steps:  # the norm stands on the stream, after the block
                triples.append((scale, (*steps[scale].sources,), steps[scale].target))
            else:
                stream = case.at(source, layer)
                triples.append((scale, (stream if stream in sites else case.at("resid_pre", layer),), after))
    last = case.at("resid_post", case.layers[-1]) if case.layers else LOGITS
    triples.append((case.at("final_norm_scale"), (last,), case.at("final_norm")))
    for scale, sources, after in triples:
        if not {scale, *sources, after} <= set(sites):
            continue
        acts = case.read(scale, *sources, after)
        stream = torch.stack([acts[source] for source in sources]).sum(0)
        found = _normed(case, stream, acts[scale], scale, acts[after])
        case.near(found, acts[after], *acts, why="the scale does not rebuild the norm")


class Step(NamedTuple):
    """The stream at `target` is the sum of `sources`; where the site of a norm's scale is given, the norm of that sum."""

    sources: tuple[Site, ...]
    target: Site
    norm: Site | None


def steps_of_the_stream(case: Case, layer: int) -> list[Step]:
    """From resid_pre to resid_post: what each block adds, in turn, or all at once where no stream stands between them."""
    sites = case.subject.sites
    blocks = [block for block in ("attn", "cross", "mixer", "mlp") if case.at(f"{block}_add", layer) in sites]
    middle = [site for site in (case.at(kind, layer) for kind in ("resid_cross", "resid_mid")) if site in sites]
    stream = [case.at("resid_pre", layer), *middle, case.at("resid_post", layer)]
    if not blocks or not {stream[0], stream[-1]} <= set(sites):
        return []
    if len(stream) != len(blocks) + 1:
        return [Step((stream[0], *(case.at(f"{block}_add", layer) for block in blocks)), stream[-1], None)]
    found = []
    for number, block in enumerate(blocks):
        scale, target = case.at(f"{block}_norm_scale", layer), stream[number + 1]
        on_stream = scale in sites and sites[scale].module == sites[target].module and sites[target].side == "out"
        found.append(Step((stream[number], case.at(f"{block}_add", layer)), target, scale if on_stream else None))
    return found


def _stepped(case: Case, step: Step, acts: dict[Site, Tensor]) -> Tensor:
    """What the stream must be at a step's target."""
    total = torch.stack([acts[source] for source in step.sources]).sum(0)
    return total if step.norm is None else _normed(case, total, acts[step.norm], step.norm, acts[step.target])


def _normed(case: Case, x: Tensor, scale: Tensor, site: Site, like: Tensor) -> Tensor:
    """A norm's output from its input and scale: of norms that take off the mean or do not, that multiply by their weight, by 1
    more than it or by nothing. Whichever is nearest to `like`."""
    weight, bias = case.weight(site), case.weight(site, "bias")
    found = []
    for each in (x, x - x.mean(-1, keepdim=True)):
        for factor in (weight, 1 + weight) if weight is not None else (1.0,):
            found.append(each / scale * factor + (0.0 if bias is None else bias))
    return min(found, key=lambda one: far(one, like))


def own_value_written_back_changes_nothing(case: Case) -> None:
    """What the run comes to is bit-identical at module boundaries, within 1e-5 relative elsewhere; also for single heads."""
    plain = case.result()
    for site in [*case.order, *parts(case)]:
        after = case.result([Replace(site, case.read(site)[site])])
        compare = case.near if case.subject.sites[site.whole].side == "computed" else case.same
        compare(after, plain, site, why=f"written back, it moved {case.end}")


def another_value_written_changes_the_logits(case: Case) -> None:
    """The control of the check above: the write is really made, and a read returns it."""
    plain = case.result()
    noise = torch.Generator().manual_seed(3)
    for site in [*case.order, *parts(case)]:
        own = case.read(site)[site]
        other = own * (1.5 + torch.rand(own.shape, generator=noise)).to(own)
        acts = case.subject.run(case.inputs, read=[site, case.end], write=[Replace(site, other)]).acts
        case.same(acts[site], other, site, why="a read does not return what was written")
        case.true(far(acts[case.end], plain) > 10 * NEAR, site, why=f"what is written there does not reach {case.end}")


def a_head_is_one_part_of_its_site(case: Case) -> None:
    for site in parts(case):
        axis = 1 if site.kind in MAP_KINDS else 2
        whole = case.read(site.whole)[site.whole]
        case.same(case.read(site)[site], whole.select(axis, site.part or 0), site, why="it is another part of the whole")
        written = case.subject.run(case.inputs, read=[site.whole], write=[Replace(site, torch.zeros(()))]).acts[site.whole]
        expected = whole.clone()
        expected.select(axis, site.part or 0).zero_()
        case.same(written, expected, site, why="what is written there touches other parts")


def pattern_times_values_is_z(case: Case) -> None:
    for kinds in (("attn_pattern", "v", "z"), ("cross_pattern", "cross_v", "cross_z")):
        for layer in case.layers if case.has(*kinds) else ():
            acts = case.read(*(case.at(kind, layer) for kind in kinds))
            pattern, v, z = acts.values()
            v = v.repeat_interleave(z.shape[2] // v.shape[2], dim=2)
            case.near(torch.einsum("bhts,bshd->bthd", pattern, v), z, *acts, why="pattern times values is not z")
            native = case.site(kinds[-1], layer)  # without attention in the open
            case.near(z, native, case.at(kinds[-1], layer), why="it moves when attention is read")


def queries_times_keys_are_scores(case: Case) -> None:
    """Rotated queries times keys, scaled, are the scores where a token may look, with what the model adds for their distance;
    unrotated ones agree at position 0, where a model whose keys exist only rotated (latent attention) may lay the numbers of a
    query out in another order."""
    for scores_kind, kinds, after in (
        ("attn_scores", ("q", "k"), ("q_rot", "k_rot")),
        ("cross_scores", ("cross_q", "cross_k"), ()),
    ):
        turned, bare = bool(after) and case.has(*after), case.has(*kinds)
        for layer in case.layers if case.has(scores_kind) and (turned or bare) else ():
            scores_at = case.at(scores_kind, layer)
            pairs = [site for site in (case.at(kind, layer) for kind in (*kinds, *after)) if site in case.subject.sites]
            acts = case.read(scores_at, *pairs)
            q, k = (acts[case.at(kind, layer)] for kind in (after if turned else kinds))
            product = torch.einsum("bthd,bshd->bhts", q, k.repeat_interleave(q.shape[2] // k.shape[2], dim=2))
            seen = _seen(case, acts[scores_at], scores_at)
            found, expected = _scaled(case, product, q.shape[-1], scores_at), acts[scores_at]
            case.near(
                found.masked_fill(~seen, 0), expected.masked_fill(~seen, 0), *acts, why="queries times keys are not scores"
            )
            for kind, now in zip(kinds, (q, k), strict=True):
                if (site := case.at(kind, layer)) in acts:
                    first, before = now[:, 0], acts[site][:, 0]
                    first, before = (first, before) if bare else (first.sort().values, before.sort().values)
                    case.near(first, before, site, why="turned at position 0, it is not itself")


def _scaled(case: Case, product: Tensor, width: int, site: Site) -> Tensor:
    """As the attention module says: its own factor, the cap of a model that has one, and the bias for distance of a model that
    keeps one in its first layer."""
    if case.model is None:
        return product * width**-0.5
    module = case.model.get_submodule(case.subject.sites[site].module)
    product = product * getattr(module, "scaling", width**-0.5)
    cap = getattr(module, "attn_logit_softcapping", None)
    product = product if cap is None else (product / cap).tanh() * cap
    first = case.model.get_submodule(case.subject.sites[case.at(site.kind, case.layers[0])].module)
    if hasattr(first, "relative_attention_bias"):
        product = product + first.compute_bias(*product.shape[2:]).detach()
    return product


def _seen(case: Case, scores: Tensor, site: Site) -> Tensor:
    """Where a token may look: everywhere; or, where none sees what comes after it, at itself and all before it, or the last of
    them where the model has a window."""
    seen = scores > -1e4
    if not case.causal or site.kind != "attn_scores":
        case.true(bool(seen.all()), site, why="a token does not see all others")
        return seen
    causal = torch.ones(scores.shape[2:], dtype=torch.bool).tril()
    case.true(not bool((seen & ~causal).any()), site, why="scores are not masked: a token sees those after it")
    case.true(bool(seen.diagonal(dim1=-2, dim2=-1).all()), site, why="a token does not see itself")
    if getattr(getattr(case.model, "config", None), "sliding_window", None) is None:
        case.true(bool((seen == causal).all()), site, why="a token does not see all before it")
    return seen


def the_stream_is_the_sum_of_what_is_added(case: Case) -> None:
    """Or its norm, where one stands on the stream."""
    every = case.read(*_on_the_stream(case))
    for layer in case.layers:
        for step in steps_of_the_stream(case, layer):
            shown = (*step.sources, step.target)
            case.near(_stepped(case, step, every), every[step.target], *shown, why="the stream is not the sum of what is added")
        after, following = case.at("resid_post", layer), case.at("resid_pre", layer + 1)
        if after in every and following in every:
            case.same(every[after], every[following], after, following, why="a layer does not begin where the last one ends")


def _on_the_stream(case: Case) -> list[Site]:
    """The stream, what is added to it, and the scales of norms that stand on it."""
    steps = [step for layer in case.layers for step in steps_of_the_stream(case, layer)]
    return [site for site in case.order if any(site in (*step.sources, step.target, step.norm) for step in steps)]


def the_sum_holds_after_writes(case: Case) -> None:
    """Whatever is written to the stream or to what is added to it, the stream after it is still their sum: writes reach every
    path."""
    steps = steps_of_the_stream(case, case.layers[0]) if case.layers else []
    sites = [site for site in case.order if any(site in (*step.sources, step.target, step.norm) for step in steps)]
    for site in sites[:-1]:
        if any(site == step.norm for step in steps):
            continue
        own = case.read(site)[site]
        other = torch.randn(own.shape, generator=torch.Generator().manual_seed(2)).to(own)
        acts = dict(case.subject.run(case.inputs, read=sites, write=[Replace(site, other)]).acts)
        for step in steps:
            if step.target != site:
                found = _stepped(case, step, acts)
                case.near(found, acts[step.target], site, why=f"what is written there misses a path to {step.target}")


def last_products_rebuild_their_outputs(case: Case) -> None:
    """mlp_post @ W + b = mlp_out, z @ W + b = attn_out, and the last residual gives the logits."""
    for source, out in (("mlp_post", "mlp_out"), ("z", "attn_out"), ("cross_z", "cross_out"), ("ssm_out", "mixer_out")):
        for layer in case.having(source, out):
            acts = case.read(case.at(source, layer), case.at(out, layer))
            x, after = acts.values()
            x = x.flatten(2) if source in HEAD_KINDS else x
            case.near(_product(case, x, case.at(out, layer)), after, *acts, why="times the weights it is not the other")


def the_last_residual_gives_the_logits(case: Case) -> None:
    """Whatever the model does after its last layer, to the logits or the last site, it does to the last residual alone; where
    this is a norm and a product, these are what it says."""
    last = case.at("resid_post", case.layers[-1]) if case.layers else case.end
    if last not in case.subject.sites or last == case.end or case.subject.order.index(last) < _last_layer(case):
        return
    acts, rolled = case.read(last, case.end), Inputs(*(None if x is None else x.roll(1, 0) for x in case.inputs))
    case.near(
        case.result([Replace(last, acts[last])], rolled), acts[case.end], last, case.end, why="more than it gives the end"
    )
    case.true(far(case.result(inputs=rolled), acts[case.end]) > 10 * NEAR, case.end, why="it is the same for all inputs")
    norm, scale = case.at("final_norm"), case.at("final_norm_scale")
    if {norm, scale, LOGITS} <= set(case.subject.sites) and "t" in case.subject.sites[LOGITS].shape:
        acts = case.read(last, scale, norm, LOGITS)
        found = _product(case, _normed(case, acts[last], acts[scale], norm, acts[norm]), LOGITS)
        if not case.subject.sites[LOGITS].module:  # the whole model may multiply them by a number
            found = found * ((found * acts[LOGITS]).sum() / found.square().sum())
        case.near(found, acts[LOGITS], last, scale, LOGITS, why="the last residual does not give the logits")


def _last_layer(case: Case) -> int:
    """Where the last site of any layer stands."""
    return max(number for number, site in enumerate(case.subject.order) if site.layer is not None)


def a_nonlinearity_joins_pre_and_post(case: Case) -> None:
    """mlp_post is one of the usual functions of mlp_pre, number by number, times mlp_up where there is one."""
    for layer in case.having("mlp_pre", "mlp_post"):
        kinds = [kind for kind in ("mlp_pre", "mlp_up") if case.at(kind, layer) in case.subject.sites]
        acts = case.read(*(case.at(kind, layer) for kind in (*kinds, "mlp_post")))
        before, *gated, after = acts.values()
        found = [function(before) * (gated[0] if gated else 1) for function in NONLINEAR]
        case.near(min(found, key=lambda one: far(one, after)), after, *acts, why="no usual function makes one of the other")


def padding_and_company_do_not_matter(case: Case) -> None:
    """Left or right padding, and the other rows of a batch, move the values at real tokens by at most 1e-5 relative."""
    sites = [site for site in case.order if not site.kind.endswith("_scores")]
    shapes = {site: case.subject.sites[site].shape for site in sites}
    for side in ("right", "left"):
        inputs = padded(case, side)
        assert inputs.mask is not None
        acts = case.subject.run(inputs, read=sites).acts
        for row, kept in enumerate(inputs.mask):
            alone = case.subject.run(case.row(row, int(kept.sum())), read=sites).acts
            for site in sites:
                found = real(acts[site][row], shapes[site], kept)
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
    the_last_residual_gives_the_logits,
    a_nonlinearity_joins_pre_and_post,
    padding_and_company_do_not_matter,
)
