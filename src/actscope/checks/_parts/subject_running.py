"""How a subject runs: what it leaves behind, padding, packing, caches, gradients and changes."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from actscope.core.change import Change, Delta
from actscope.core.errors import BadInput, UnknownSite
from actscope.core.inputs import Inputs
from actscope.core.intervention import Add, Context, Replace, Scale, Zero
from actscope.core.site import MAP_KINDS, Site
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
    run = subject.run(case.ids, read=some)
    assert list(run.acts) == some and run.logits is None, "acts are not exactly the sites asked for"
    every = subject.run(case.ids, read=subject.order)
    sizes = {"b": case.ids.shape[0], "t": case.ids.shape[1]}
    for site, value in every.acts.items():
        expected = tuple(sizes.get(size, size) if isinstance(size, str) else size for size in subject.sites[site].shape)
        assert tuple(value.shape) == expected, f"{site} has shape {tuple(value.shape)}, its SiteInfo says {expected}"
        assert not value.requires_grad, f"{site} keeps a graph although grad=False"
    whole = subject.run(case.ids)
    assert whole.logits is not None and not whole.acts, "read=() gives the logits and nothing else"
    if LOGITS in every.acts:
        assert every.logits is not None and far(every.acts[LOGITS], whole.logits) <= NEAR


def a_run_stops_after_the_last_site(case: Case) -> None:
    """No module after the last site runs, and the vocabulary projection runs only for logits."""
    if case.model is None or not case.layers:
        return
    ran: list[str] = []
    paths = {case.subject.sites[site].module: site for site in case.subject.order if site.layer is not None or site == LOGITS}
    modules = dict(case.model.named_modules())
    handles = [modules[path].register_forward_pre_hook(lambda _m, _a, path=path: ran.append(path)) for path in paths]
    try:
        first = next(site for site in case.subject.order if site.layer == case.layers[0])
        case.subject.run(case.ids, read=[first])
        late = [path for path in ran if paths[path].layer != case.layers[0]]
        assert not late, f"after {first}, {late[0] if late else ''} still ran"
        ran.clear()
        case.subject.run(case.ids, read=[site for site in case.subject.order if site != LOGITS])
        projection = case.subject.sites[LOGITS].module
        assert projection not in ran, "the vocabulary projection ran although no logits were asked for"
        case.subject.run(case.ids)
        assert projection in ran, "the check above cannot fail: the projection was never seen to run"
    finally:
        for handle in handles:
            handle.remove()


def writes_are_made_in_order(case: Case) -> None:
    site = case.subject.order[len(case.subject.order) // 2]
    own = case.read(site)[site]
    ones = torch.ones((), dtype=own.dtype)
    first = case.subject.run(case.ids, read=[site], write=[Add(site, ones), Scale(site, 2.0)]).acts[site]
    second = case.subject.run(case.ids, read=[site], write=[Scale(site, 2.0), Add(site, ones)]).acts[site]
    assert torch.equal(first, (own + 1) * 2) and torch.equal(second, own * 2 + 1)


def an_intervention_sees_what_stands_before_it(case: Case) -> None:
    if not case.has("resid_pre", "resid_post"):
        return
    before, after = Site("resid_pre", case.layers[0]), Site("resid_post", case.layers[-1])
    acts = case.read(before, after)
    moved = case.subject.run(case.ids, read=[after], write=[Scale(before, 1.0), _AddsWhatItSaw(after, (before,))]).acts
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
        case.subject.run(case.ids, **given)
    except kind:
        return
    raise AssertionError(f"run(ids, {given}) went through; expected {kind.__name__}")


def nothing_is_left_after_an_exception(case: Case) -> None:
    plain = case.subject.run(case.ids).logits
    computed = [site for site in case.subject.order if case.subject.sites[site].side == "computed"]
    config = getattr(case.model, "config", None)
    attention = getattr(config, "_attn_implementation", None)
    for site in [*case.subject.order[:3], *computed[:9]]:
        for grad in (False, True):
            try:
                case.subject.run(case.ids, read=case.subject.order, write=[_Breaks(site)], grad=grad)
            except _Broken:
                _no_hooks(case.model)
            else:
                raise AssertionError(f"an intervention at {site} was not called")
    case.subject.run(case.ids, read=case.subject.order)
    _no_hooks(case.model)
    assert getattr(config, "_attn_implementation", None) == attention, "another attention was left in the model's config"
    assert torch.is_grad_enabled(), "gradients were left switched off"
    after = case.subject.run(case.ids).logits
    assert plain is not None and after is not None and torch.equal(after, plain), "a failed run moved the next one"


def _no_hooks(model: Any) -> None:
    for path, module in model.named_modules() if model is not None else ():
        assert not module._forward_hooks and not module._forward_pre_hooks, f"a hook was left on {path}"


def packed_documents_do_not_see_each_other(case: Case) -> None:
    """Documents packed in one row give what each gives alone."""
    t = case.ids.shape[1]
    cut = t // 3
    document = torch.zeros_like(case.ids)
    document[:, cut:] = 1
    sites = [site for site in case.subject.order if site.kind not in MAP_KINDS]
    packed = case.subject.run(Inputs(ids=case.ids, document=document), read=sites).acts
    joined = case.subject.run(case.ids, read=sites).acts
    for start, end in ((0, cut), (cut, t)):
        alone = case.subject.run(case.ids[:, start:end], read=sites).acts
        for site in sites:
            apart = far(packed[site][:, start:end], alone[site])
            assert apart <= NEAR, f"{site} of a packed document moves by {apart:.1e}"
    last = Site("resid_post", case.layers[-1]) if case.layers else sites[-1]
    assert far(packed[last][:, cut:], joined[last][:, cut:]) > NEAR, "packing changes nothing, so the check cannot fail"


def running_on_from_a_cache_is_running_at_once(case: Case) -> None:
    """In one step, in several, after crop and select, and with a cache whose rows are padded on the right."""
    subject, ids = case.subject, case.ids
    full = subject.run(ids).logits
    assert full is not None
    cut = ids.shape[1] // 2
    start = subject.run(ids[:, :cut], cache=True)
    assert start.cache.length == cut
    rest = subject.run(ids[:, cut:], cache=start.cache)
    assert rest.logits is not None and far(rest.logits, full[:, cut:]) <= NEAR
    assert start.cache.length == cut and rest.cache.length == ids.shape[1], "running on altered the cache it started from"
    again = subject.run(ids[:, cut - 1 :], cache=rest.cache.crop(cut - 1)).logits
    assert again is not None and far(again, full[:, cut - 1 :]) <= NEAR, "after crop"
    order = torch.tensor([1, 0, 1])
    picked = subject.run(ids[order][:, cut:], cache=start.cache.select(order)).logits
    assert picked is not None and far(picked, full[order][:, cut:]) <= NEAR, "after select"
    prefix = padded(case, "right")
    assert prefix.mask is not None
    lengths = prefix.mask.sum(1) - 1
    mask = torch.arange(ids.shape[1]) < lengths[:, None]
    cache = subject.run(Inputs(ids=prefix.ids, mask=mask), cache=True).cache
    rows = torch.tensor([2, 0, 2, 1])
    one = Inputs(
        ids=ids[rows, lengths[rows]][:, None], positions=lengths[rows][:, None],
        mask=torch.cat([mask[rows], torch.ones(4, 1, dtype=torch.bool)], dim=1),
    )  # fmt: skip
    after = subject.run(one, cache=cache.select(rows)).logits
    assert after is not None and far(after[:, 0], full[rows, lengths[rows]]) <= NEAR, "one token after padded prefixes"


def gradients_flow_from_the_logits_to_every_site(case: Case) -> None:
    sites = [site for site in case.subject.order if site != LOGITS]
    run = case.subject.run(case.ids, read=[*sites, LOGITS], grad=True)
    assert run.logits is not None
    cut = [str(site) for site in (*sites, LOGITS) if not run.acts[site].requires_grad]
    assert not cut, f"{cut[0] if cut else ''} has no graph although grad=True"
    direction = torch.randn(run.logits.shape, generator=torch.Generator().manual_seed(1)).to(run.logits)
    found = torch.autograd.grad((run.logits * direction).sum(), [run.acts[site] for site in sites], allow_unused=True)
    for site, gradient in zip(sites, found, strict=True):
        assert gradient is not None and bool((gradient != 0).any()), f"no gradient from the logits to {site}"
        assert bool(gradient.isfinite().all()), f"the gradient at {site} is not finite"
    plain = case.subject.run(case.ids).logits
    assert plain is not None and far(run.logits.detach(), plain) <= NEAR, "grad=True moves the logits"


def a_change_is_a_copy(case: Case) -> None:
    """An empty change changes nothing; another changes the copy only, weights and standing interventions alike."""
    subject = case.subject
    plain = subject.run(case.ids).logits
    before = {name: tensor.clone() for name, tensor in subject.weights().items()}
    same = subject.changed(Change()).run(case.ids).logits
    assert plain is not None and same is not None and torch.equal(same, plain), "changed(Change()) is not the identity"
    site = subject.order[len(subject.order) // 2]
    standing = subject.changed(Change((Scale(site, 1.5),)))
    expected = subject.run(case.ids, write=[Scale(site, 1.5)]).logits
    found = standing.run(case.ids).logits
    assert found is not None and expected is not None and torch.equal(found, expected), "a standing intervention"
    name = max(before, key=lambda key: before[key].numel())
    heavier = subject.changed(Change(weights={name: Delta(torch.ones_like(before[name]))}))
    moved = heavier.run(case.ids).logits
    assert moved is not None and not torch.equal(moved, plain), f"a change of {name} does nothing"
    assert torch.equal(heavier.weights()[name], before[name] + 1)
    shared = [key for key in before if key != name and heavier.weights()[key].data_ptr() == subject.weights()[key].data_ptr()]
    assert len(shared) >= len(before) - 2, "untouched parameters are copied"
    assert len({subject.fingerprint, standing.fingerprint, heavier.fingerprint}) == 3, "fingerprints do not tell changes apart"
    for key, tensor in subject.weights().items():
        assert torch.equal(tensor, before[key]), f"{key} of the original was altered"
    after = subject.run(case.ids).logits
    assert after is not None and torch.equal(after, plain), "the original was altered"


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
