"""How a subject runs: what it leaves behind, padding, packing, caches, gradients and changes."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from actscope.core.change import Change, Delta
from actscope.core.errors import BadInput, UnknownSite
from actscope.core.inputs import Inputs
from actscope.core.intervention import Add, Context, Replace, Scale, Zero
from actscope.core.site import MAP_KINDS, Site
from actscope.core.subject import Subject
from actscope.subjects._proof.case import LOGITS, NEAR, Case, far, padded


class _Broken(Exception):
    pass


@dataclass(frozen=True)
class _Breaks:
    site: Site
    reads: tuple[Site, ...] = ()

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        raise _Broken


@dataclass(frozen=True)
class _AddsWhatItSaw:
    site: Site
    reads: tuple[Site, ...]

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        assert set(context.seen) == set(self.reads)
        return x + context.seen[self.reads[0]]


def a_run_gives_exactly_what_was_asked(case: Case) -> None:
    subject = case.subject
    some = [subject.order[len(subject.order) // 2], subject.order[0]]
    run = subject.run(case.inputs, read=some)
    assert list(run.acts) == some and run.logits is None, "acts are not exactly the sites asked for"
    every = subject.run(case.inputs, read=subject.order)
    sizes = _sizes(case)
    for site, value in every.acts.items():
        expected = tuple(sizes.get(size, size) if isinstance(size, str) else size for size in subject.sites[site].shape)
        assert tuple(value.shape) == expected, f"{site} has shape {tuple(value.shape)}, its SiteInfo says {expected}"
        assert not value.requires_grad, f"{site} keeps a graph although grad=False"
    whole = subject.run(case.inputs)
    assert not whole.acts, "read=() gives the logits and nothing else"
    assert (whole.logits is not None) == (LOGITS in subject.sites), "a run to the end gives logits where there are any"
    if LOGITS in every.acts:
        assert every.logits is not None and far(every.acts[LOGITS], whole.logits) <= NEAR  # type: ignore[arg-type]


def _sizes(case: Case) -> dict[str, int]:
    """Of the axes that letters name."""
    given = case.inputs
    tokens = case.subject.prepare(given.pixels).mask if given.ids is None else given.ids  # type: ignore[arg-type]
    assert tokens is not None
    return {"b": case.rows, "t": tokens.shape[1], "u": 0 if given.decoder is None else given.decoder.shape[1]}


def a_run_stops_after_the_last_site(case: Case) -> None:
    """No module after the last site runs, and the vocabulary projection runs only for logits."""
    subject = case.subject
    if case.model is None or not case.layers:
        return
    ran: list[str] = []
    paths = {subject.sites[site].module: site for site in subject.order if site.layer is not None or site == LOGITS}
    modules = dict(case.model.named_modules())
    handles = [modules[path].register_forward_pre_hook(lambda _m, _a, path=path: ran.append(path)) for path in paths]
    try:
        first = next(site for site in subject.order if site.layer == case.layers[0])
        subject.run(case.inputs, read=[first])
        late = [path for path in ran if (paths[path].stack, paths[path].layer) != (first.stack, first.layer)]
        assert not late, f"after {first}, {late[0] if late else ''} still ran"
        ran.clear()
        subject.run(case.inputs, read=[site for site in subject.order if site.stack == first.stack and site != LOGITS])
        late = [path for path in ran if paths[path].layer is not None and paths[path].stack != first.stack]
        assert not late, f"after all sites of {first.stack}, {late[0] if late else ''} still ran"
        subject.run(case.inputs, read=[site for site in subject.order if site != LOGITS])
        if LOGITS in subject.sites:
            projection = subject.sites[LOGITS].module
            assert projection not in ran, "the vocabulary projection ran although no logits were asked for"
            subject.run(case.inputs)
            assert projection in ran, "the check above cannot fail: the projection was never seen to run"
    finally:
        for handle in handles:
            handle.remove()


def writes_are_made_in_order(case: Case) -> None:
    site = case.subject.order[len(case.subject.order) // 2]
    own = case.read(site)[site]
    ones = torch.ones((), dtype=own.dtype)
    first = case.subject.run(case.inputs, read=[site], write=[Add(site, ones), Scale(site, 2.0)]).acts[site]
    second = case.subject.run(case.inputs, read=[site], write=[Scale(site, 2.0), Add(site, ones)]).acts[site]
    assert torch.equal(first, (own + 1) * 2) and torch.equal(second, own * 2 + 1)


def an_intervention_sees_what_stands_before_it(case: Case) -> None:
    if not case.has("resid_pre", "resid_post"):
        return
    before, after = case.at("resid_pre", case.layers[0]), case.at("resid_post", case.layers[-1])
    acts = case.read(before, after)
    moved = case.subject.run(case.inputs, read=[after], write=[Scale(before, 1.0), _AddsWhatItSaw(after, (before,))]).acts
    assert list(moved) == [after], "a site that only an intervention reads was returned"
    assert far(moved[after], acts[after] + acts[before]) <= NEAR
    _refused(case, BadInput, read=[after], write=[_AddsWhatItSaw(before, (after,))])


def what_cannot_be_is_refused(case: Case) -> None:
    site = case.subject.order[0]
    _refused(case, UnknownSite, read=["layers.99.resid_pre"])
    _refused(case, UnknownSite, read=["no_such_kind"])
    _refused(case, UnknownSite, write=[Zero(Site("resid_pre", 99))])
    _refused(case, Exception, write=[Replace(site, torch.zeros(3, 5, 7, 11))])


def _refused(case: Case, kind: type[Exception], **given: Any) -> None:
    try:
        case.subject.run(case.inputs, **given)
    except kind:
        return
    raise AssertionError(f"run(inputs, {given}) went through; expected {kind.__name__}")


def nothing_is_left_after_an_exception(case: Case) -> None:
    plain = case.result()
    computed = [site for site in case.subject.order if case.subject.sites[site].side == "computed"]
    attention = _attention(case.model)
    for site in [*case.subject.order[:3], *computed[:9]]:
        for grad in (False, True):
            try:
                case.subject.run(case.inputs, read=case.subject.order, write=[_Breaks(site)], grad=grad)
            except _Broken:
                _no_hooks(case.model)
            else:
                raise AssertionError(f"an intervention at {site} was not called")
    case.subject.run(case.inputs, read=case.subject.order)
    _no_hooks(case.model)
    assert _attention(case.model) == attention, "another attention was left in the model's config"
    assert torch.is_grad_enabled(), "gradients were left switched off"
    assert torch.equal(case.result(), plain), "a failed run moved the next one"


def _no_hooks(model: Any) -> None:
    for path, module in model.named_modules() if model is not None else ():
        assert not module._forward_hooks and not module._forward_pre_hooks, f"a hook was left on {path}"


def _attention(model: Any) -> list[str]:
    """What the configs of its modules say of their attention."""
    configs = [getattr(module, "config", None) for module in model.modules()] if model is not None else []
    return [getattr(config, "_attn_implementation", "") for config in configs]


def packed_documents_do_not_see_each_other(case: Case) -> None:
    """Documents packed in one row give what each gives alone. Only where attention joins the tokens of one text can it be
    kept inside a document; other subjects say that they cannot."""
    if case.inputs.ids is None:
        return
    t = case.ids.shape[1]
    cut = t // 3
    document = torch.zeros_like(case.ids)
    document[:, cut:] = 1
    sites = [site for site in case.subject.order if site.kind not in MAP_KINDS]
    try:
        packed = case.subject.run(Inputs(ids=case.ids, document=document), read=sites).acts
    except BadInput:
        assert not _attends(case), "documents are refused, although attention could be kept inside them"
        return
    joined = case.subject.run(case.ids, read=sites).acts
    for start, end in ((0, cut), (cut, t)):
        alone = case.subject.run(case.ids[:, start:end], read=sites).acts
        for site in sites:
            apart = far(packed[site][:, start:end], alone[site])
            assert apart <= NEAR, f"{site} of a packed document moves by {apart:.1e}"
    last = case.at("resid_post", case.layers[-1]) if case.layers else sites[-1]
    assert far(packed[last][:, cut:], joined[last][:, cut:]) > NEAR, "packing changes nothing, so the check cannot fail"


def _attends(case: Case) -> bool:
    """Whether attention, in one stack, is all that joins tokens."""
    return case.stack == "" and case.has("attn_pattern")


def running_on_from_a_cache_is_running_at_once(case: Case) -> None:
    """In one step, in several, after crop and select, and with a cache whose rows are padded on the right. Only where tokens
    see none after them, through attention, must there be a cache; other subjects say that they have none."""
    subject = case.subject
    try:
        subject.run(case.inputs, read=subject.order[:1], cache=True)
    except BadInput:
        assert not (_attends(case) and subject.causal), "a cache is refused, although nothing that is cached would change"
        return
    ids, cut = case.ids, case.ids.shape[1] // 2
    full = case.result()
    _, start = _on(case, ids[:, :cut], True)
    assert start.length == cut
    rest, whole = _on(case, ids[:, cut:], start)
    assert far(rest, full[:, cut:]) <= NEAR
    assert start.length == cut and whole.length == ids.shape[1], "running on altered the cache it started from"
    again, _ = _on(case, ids[:, cut - 1 :], whole.crop(cut - 1))
    assert far(again, full[:, cut - 1 :]) <= NEAR, "after crop"
    order = torch.tensor([1, 0, 1])
    picked, _ = _on(case, ids[order][:, cut:], start.select(order))
    assert far(picked, full[order][:, cut:]) <= NEAR, "after select"
    prefix = padded(case, "right")
    assert prefix.mask is not None
    lengths = prefix.mask.sum(1) - 1
    mask = torch.arange(ids.shape[1]) < lengths[:, None]
    _, cache = _on(case, Inputs(ids=prefix.ids, mask=mask), True)
    rows = torch.tensor([2, 0, 2, 1])
    one = Inputs(
        ids=ids[rows, lengths[rows]][:, None], positions=lengths[rows][:, None],
        mask=torch.cat([mask[rows], torch.ones(4, 1, dtype=torch.bool)], dim=1),
    )  # fmt: skip
    after, _ = _on(case, one, cache.select(rows))
    assert far(after[:, 0], full[rows, lengths[rows]]) <= NEAR, "one token after padded prefixes"


def _on(case: Case, given: Inputs | Tensor, cache: Any) -> tuple[Tensor, Any]:
    """What a run that goes on from a cache comes to, and its cache."""
    run = case.subject.run(given, read=[case.end], cache=cache)
    return run.acts[case.end], run.cache


def gradients_flow_from_the_logits_to_every_site(case: Case) -> None:
    end = case.end
    sites = [site for site in case.subject.order if site != end]
    run = case.subject.run(case.inputs, read=[*sites, end], grad=True)
    cut = [str(site) for site in (*sites, end) if not run.acts[site].requires_grad]
    assert not cut, f"{cut[0] if cut else ''} has no graph although grad=True"
    result = run.acts[end] if run.logits is None else run.logits
    direction = torch.randn(result.shape, generator=torch.Generator().manual_seed(1)).to(result)
    found = torch.autograd.grad((result * direction).sum(), [run.acts[site] for site in sites], allow_unused=True)
    for site, gradient in zip(sites, found, strict=True):
        assert gradient is not None and bool((gradient != 0).any()), f"no gradient from {end} to {site}"
        assert bool(gradient.isfinite().all()), f"the gradient at {site} is not finite"
    assert far(result.detach(), case.result()) <= NEAR, f"grad=True moves {end}"


def a_change_is_a_copy(case: Case) -> None:
    """An empty change changes nothing; another changes the copy only, weights and standing interventions alike."""
    subject = case.subject
    plain = case.result()
    before = {name: tensor.clone() for name, tensor in subject.weights().items()}
    assert torch.equal(_result(case, subject.changed(Change())), plain), "changed(Change()) is not the identity"
    site = subject.order[len(subject.order) // 2]
    standing = subject.changed(Change((Scale(site, 1.5),)))
    assert torch.equal(_result(case, standing), case.result([Scale(site, 1.5)])), "a standing intervention"
    used = {info.module for info in subject.sites.values()}
    weights = [key for key in before if key.rpartition(".")[0] in used] or list(before)
    name = max(weights, key=lambda key: before[key].numel())
    heavier = subject.changed(Change(weights={name: Delta(torch.ones_like(before[name]))}))
    assert not torch.equal(_result(case, heavier), plain), f"a change of {name} does nothing"
    assert torch.equal(heavier.weights()[name], before[name] + 1)
    where = {key: tensor.data_ptr() for key, tensor in subject.weights().items()}
    copied = [key for key, tensor in heavier.weights().items() if where[key] not in (where[name], tensor.data_ptr())]
    assert not copied, f"an untouched parameter is copied: {copied[0] if copied else ''}"
    assert len({subject.fingerprint, standing.fingerprint, heavier.fingerprint}) == 3, "fingerprints do not tell changes apart"
    for key, tensor in subject.weights().items():
        assert torch.equal(tensor, before[key]), f"{key} of the original was altered"
    assert torch.equal(case.result(), plain), "the original was altered"


def _result(case: Case, subject: Subject) -> Tensor:
    return replace(case, subject=subject).result()


RUNNING = (
    a_run_gives_exactly_what_was_asked,
    a_run_stops_after_the_last_site,
    writes_are_made_in_order,
    an_intervention_sees_what_stands_before_it,
    what_cannot_be_is_refused,
    nothing_is_left_after_an_exception,
    packed_documents_do_not_see_each_other,
    running_on_from_a_cache_is_running_at_once,
    gradients_flow_from_the_logits_to_every_site,
    a_change_is_a_copy,
)
