"""Mixtures of experts: routers, weights and each expert's output are those of the run, and what is written to them is used."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from actscope.core.intervention import Context, Replace
from actscope.core.site import Site
from actscope.subjects._proof.case import NEAR, Case, far

KINDS = ("router", "router_weight", "expert_out")


class _Broken(Exception):
    pass


@dataclass(frozen=True)
class _Breaks:
    site: Site
    reads: tuple[Site, ...] = ()

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        raise _Broken


def weights_are_those_of_the_chosen(case: Case) -> None:
    """Bitwise the weights that the model's own router gives its choice, and 0 for every other expert."""
    for layer in case.having(*KINDS):
        weight, site = case.site("router_weight", layer), case.at("router_weight", layer)
        chosen = (weight != 0).sum(-1)
        case.true(bool((chosen == chosen.flatten()[0]).all()), site, why="not as many experts have one at every token")
        case.true(bool((chosen < weight.shape[-1]).all()), site, why="no expert has weight 0")
        if case.model is not None:
            _, weights, choice = _given_by_the_router(case, layer)
            expected = weights.new_zeros(len(weights), weight.shape[-1]).scatter(1, choice, weights)
            case.same(weight.flatten(0, 1), expected, site, why="it is not what the router gives the chosen")


def _given_by_the_router(case: Case, layer: int) -> Any:
    """(logits, weights, choice) of a run of the untouched model."""
    seen: list = []
    module = case.model.get_submodule(case.subject.sites[case.at("router", layer)].module)
    hook = module.register_forward_hook(lambda _m, _a, out: seen.append(out))
    try:
        with torch.no_grad():
            case.native(case.model)
    finally:
        hook.remove()
    return seen[0]


def experts_sum_to_the_mlps_output(case: Case) -> None:
    """Weights times outputs, and what all tokens share, are mlp_out as it is when no expert is read."""
    for layer in case.having(*KINDS, "mlp_out"):
        kinds = [kind for kind in (*KINDS, "shared_out", "shared_gate") if case.at(kind, layer) in case.subject.sites]
        sites = [case.at(kind, layer) for kind in kinds]
        acts = {site.kind: value for site, value in case.read(*sites).items()}
        rebuilt = torch.einsum("bte,bted->btd", acts["router_weight"].to(acts["expert_out"]), acts["expert_out"]) + _shared(
            acts
        )
        gives = case.at("mlp_out", layer)
        case.near(rebuilt, case.site("mlp_out", layer), *sites, gives, why="weighted experts do not sum to mlp_out")


def _shared(acts: dict[str, Tensor]) -> Tensor:
    shared, gate = acts.get("shared_out"), acts.get("shared_gate")
    if shared is None:
        return torch.zeros(())
    return shared if gate is None else gate.sigmoid() * shared


def an_expert_is_valid_where_it_is_chosen(case: Case) -> None:
    """Run.valid of one expert holds exactly at the tokens that chose it; its output is there, and 0 elsewhere."""
    for layer in case.having(*KINDS):
        weight, whole = case.site("router_weight", layer), case.site("expert_out", layer)
        for expert in range(weight.shape[-1]):
            site = Site("expert_out", layer, expert)
            run = case.subject.run(case.inputs, read=[site])
            case.true(set(run.valid) == {site}, site, why="Run.valid does not speak of it alone")
            valid, there = run.valid.get(site, torch.zeros(())), (run.acts[site] != 0).any(-1)
            case.true(torch.equal(valid, weight[..., expert] != 0), site, why="it is not valid where it is chosen")
            case.true(torch.equal(there, valid), site, why="it is not 0 exactly where it is not valid")
            case.near(run.acts[site], whole[:, :, expert], site, why=f"it is not a part of {site.whole}")


def reading_experts_moves_nothing(case: Case) -> None:
    """And reading a router runs no expert."""
    plain = case.result()
    for layer in case.having(*KINDS):
        for site in (case.at(kind, layer) for kind in KINDS):
            case.same(_end(case, [site]), plain, site, why=f"reading it moves {case.end}")
        if case.model is not None:
            router, out = case.at("router", layer), case.at("expert_out", layer)
            case.true(not _runs_experts(case, router, out), router, why="the experts run although only the router is read")
            case.true(_runs_experts(case, out, out), out, why="the experts do not run when they are read")


def _end(case: Case, read: list[Site]) -> Tensor:
    """What a run that reads these sites too comes to."""
    return case.read(*read, case.end)[case.end]


def _runs_experts(case: Case, read: Site, out: Site) -> bool:
    ran: list[nn.Module] = []
    experts = case.model.get_submodule(case.subject.sites[out].module)
    hook = experts.register_forward_pre_hook(lambda module, _: ran.append(module))
    try:
        case.read(read)
    finally:
        hook.remove()
    return bool(ran)


def an_expert_is_written_where_it_is_valid(case: Case) -> None:
    """Its own output changes nothing, another one changes the logits, and what is written elsewhere changes nothing."""
    plain = case.result()
    for layer in case.having(*KINDS):
        count = (case.site("router_weight", layer) != 0).flatten(0, 1).sum(0)
        site = Site("expert_out", layer, int(count.argmax()))
        run = case.subject.run(case.inputs, read=[site])
        own, seen = run.acts[site], run.valid[site][..., None]
        for value, moves in ((own, False), (own * 2, True), (torch.where(seen, own, 3.0), False)):
            written = case.subject.run(case.inputs, read=[site, case.end], write=[Replace(site, value)]).acts
            case.same(written[site], value, site, why="a read does not return what was written")
            if moves:
                case.true(far(written[case.end], plain) > 10 * NEAR, site, why=f"another value does not reach {case.end}")
            else:
                case.near(written[case.end], plain, site, why=f"its own value, or one where it is not valid, moves {case.end}")


def written_weights_choose(case: Case) -> None:
    """With all weight on one expert, every token sees it and the MLP gives what it gives (and what all tokens share)."""
    for layer in case.having(*KINDS, "mlp_out"):
        weight = case.site("router_weight", layer)
        expert = weight.shape[-1] - 1
        site, gives = Site("expert_out", layer, expert), case.at("mlp_out", layer)
        shared = [case.at(kind, layer) for kind in ("shared_out", "shared_gate") if case.at(kind, layer) in case.subject.sites]
        one = torch.zeros_like(weight)
        one[..., expert] = 1
        run = case.subject.run(case.inputs, read=[site, gives, *shared], write=[Replace(case.at("router_weight", layer), one)])
        width = case.at("router_weight", layer)
        case.true(bool(run.valid[site].all()), width, site, why="written weights do not choose")
        acts = {seen.kind: value for seen, value in run.acts.items()}
        case.near(run.acts[site] + _shared(acts), run.acts[gives], width, site, why="others than the one chosen take part")


def written_logits_route(case: Case) -> None:
    """An expert whose logit is minus infinity has weight 0 at every token, and others are chosen."""
    plain = case.result()
    for layer in case.having(*KINDS):
        router, width = case.at("router", layer), case.at("router_weight", layer)
        acts = case.read(router, width)
        expert = int((acts[width] != 0).flatten(0, 1).sum(0).argmax())
        logits = acts[router].clone()
        logits[..., expert] = -torch.inf
        run = case.subject.run(case.inputs, read=[width, case.end], write=[Replace(router, logits)])
        weight = run.acts[width]
        case.true(bool((weight[..., expert] == 0).all()), router, width, why="a written logit does not route")
        case.true(bool((weight != 0).any(-1).all()), router, width, why="no expert is chosen in place of another")
        moved = far(run.acts[case.end], plain) > 10 * NEAR
        case.true(moved, router, width, why=f"written logits do not reach {case.end}")


def experts_are_left_as_they_were(case: Case) -> None:
    """Nothing of a pass stays on the modules, whether it ended or broke off."""
    for layer in case.having(*KINDS)[:1]:
        for kind in KINDS:
            for broken in (False, True):
                site = case.at(kind, layer)
                try:
                    case.subject.run(case.inputs, read=[site, case.end], write=[_Breaks(site)] if broken else [])
                except _Broken:
                    assert broken
                case.true(not _altered(case.model), site, why="a pass over it left a forward of its own on a module")


def _altered(model: Any) -> list[str]:
    """Paths of modules with a forward of their own, but for those that stand on several devices (accelerate's hooks)."""
    modules = [] if model is None else model.named_modules()
    return [path for path, module in modules if "forward" in vars(module) and not hasattr(module, "_hf_hook")]


EXPERTS = (
    weights_are_those_of_the_chosen,
    experts_sum_to_the_mlps_output,
    an_expert_is_valid_where_it_is_chosen,
    reading_experts_moves_nothing,
    an_expert_is_written_where_it_is_valid,
    written_weights_choose,
    written_logits_route,
    experts_are_left_as_they_were,
)
