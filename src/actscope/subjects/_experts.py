"""Mixtures of experts in the open: routers whose logits can be written, weights that can be written, each expert's output.

A router gives (logits, weights, choice) and a module of all experts takes (x, choice, weights), as in transformers 5. What is
not asked for runs as the model runs it.

Letters: n rows (b * t tokens), e experts, k chosen, d width.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from actscope.subjects._hooks import Pass, Place, running, standing_in
from actscope.subjects._taps import Parts, Value


@contextlib.contextmanager
def experts_in_the_open(this: Pass, places: Iterable[Place], modules: Mapping[str, nn.Module]) -> Iterator[None]:
    """Inside, the routers and experts among the places are read and written; afterwards the modules are as they were."""
    wrappers = {"router": _open_router, "router_weight": _open_experts, "expert_out": _open_experts}
    opened = {path: wrappers[side] for path, side in places if side in wrappers}
    with contextlib.ExitStack() as stack:
        for path, wrapper in opened.items():
            stack.enter_context(standing_in(modules[path], "forward", wrapper(this, path, modules[path])))
        yield


def _open_router(this: Pass, path: str, module: nn.Module) -> Callable:
    """The router's own forward, with a visit at the logits: what its product gives, before anything is made of them."""
    native = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        if running() is not this:
            return native(*args, **kwargs)
        with _FirstProduct(lambda logits: this.visit((path, "router"), logits, module, logits)):
            return native(*args, **kwargs)

    return forward


class _FirstProduct(TorchFunctionMode):
    """Inside, `visit` stands after the first linear product."""

    def __init__(self, visit: Callable[[Tensor], Tensor]):
        super().__init__()
        self._visit: Callable[[Tensor], Tensor] | None = visit

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        given = func(*args, **(kwargs or {}))
        if func is not nn.functional.linear or self._visit is None:
            return given
        visit, self._visit = self._visit, None
        return visit(given)


class _Routing(NamedTuple):
    """choice: which experts each row goes to; weights: of those. chosen: the same written out, without fillers of weight 0."""

    choice: Int[Tensor, "n k"]
    weights: Float[Tensor, "n k"]
    chosen: Bool[Tensor, "n e"]


def _open_experts(this: Pass, path: str, module: nn.Module) -> Callable:
    native = module.forward
    width, outs = (path, "router_weight"), (path, "expert_out")

    def forward(hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        if running() is not this:
            return native(hidden_states, top_k_index, top_k_weights)
        e = int((this.steps.get(width) or this.steps[outs])[0].tap.info.shape[2])
        blank = torch.zeros(len(hidden_states), e, dtype=torch.bool, device=hidden_states.device)
        routing = _Routing(top_k_index, top_k_weights, blank.scatter(1, top_k_index, True))
        if width in this.steps:
            routing = _visit_weights(this, width, module, routing)
        if outs not in this.steps:
            return native(hidden_states, routing.choice, routing.weights)
        return _visit_outs(this, outs, module, native, hidden_states, routing)

    return forward


def _visit_weights(this: Pass, place: Place, module: nn.Module, routing: _Routing) -> _Routing:
    """The routing after what is done at router_weight. Written weights choose too: an expert runs where its weight is not 0."""
    choice, weights, chosen = routing
    spread = torch.zeros(chosen.shape, dtype=weights.dtype, device=weights.device).scatter(1, choice, weights)
    new = this.visit(place, spread, module, spread)
    if _written(this, place):
        chosen = new != 0
        k = max(1, int(chosen.sum(1).max()))
        choice = chosen.float().topk(k, dim=1).indices
    return routing if new is spread else _Routing(choice, new.gather(1, choice), chosen)


def _visit_outs(
    this: Pass, place: Place, module: nn.Module, native: Callable, x: Float[Tensor, "n d"], routing: _Routing
) -> Float[Tensor, "n d"]:
    """The weighted sum, after what is done at expert_out. Only the experts asked for are computed one by one: by the model's
    own function, told to send them the rows that chose them, at weight 1. Nothing is moved by reading alone."""
    asked = {site for step in this.steps[place] for site in (*step.keep, *(site for site, _ in step.writes))}
    whole = any(site.part is None for site in asked)
    experts = range(routing.chosen.shape[1]) if whole else sorted({site.part for site in asked if site.part is not None})
    rows = {expert: routing.chosen[:, expert].nonzero()[:, 0] for expert in experts}
    b, t = this.tokens or (1, len(x))
    outs = {expert: _out_of(expert, native, x, rows[expert]).view(b, t, -1) for expert in experts}
    for site in asked:
        if site.part is not None:
            this.valid[site] = routing.chosen[:, site.part].view(b, t)
    value: Value = torch.stack(list(outs.values()), dim=2) if whole else Parts(outs)
    new = this.visit(place, value, module, x)
    if not _written(this, place) and not this.grad:
        return native(x, routing.choice, routing.weights)
    weights = torch.zeros(routing.chosen.shape, dtype=routing.weights.dtype, device=x.device)
    weights = weights.scatter(1, routing.choice, routing.weights)
    if whole:
        total = torch.zeros_like(x)
    else:  # all others together, as the model adds them up
        others = torch.ones(weights.shape[1], dtype=torch.bool, device=x.device)
        others[list(experts)] = False
        total = native(x, routing.choice, routing.weights * others[routing.choice])
    for expert in experts:
        out = (new[expert] if isinstance(new, Parts) else new[:, :, expert]).flatten(0, 1)[rows[expert]]
        total = total.index_add(0, rows[expert], (out * weights[rows[expert], expert, None]).to(total.dtype))
    return total


def _out_of(expert: int, native: Callable, x: Float[Tensor, "n d"], rows: Int[Tensor, "r"]) -> Float[Tensor, "n d"]:
    """One expert's output before weighting, 0 in the rows it does not see."""
    seen = x[rows]
    if len(rows):
        one = torch.ones(len(rows), 1, dtype=x.dtype, device=x.device)
        seen = native(seen, torch.full_like(one, expert, dtype=torch.long), one)
    return torch.zeros_like(x).index_copy(0, rows, seen)


def _written(this: Pass, place: Place) -> bool:
    return any(step.writes for step in this.steps[place])
