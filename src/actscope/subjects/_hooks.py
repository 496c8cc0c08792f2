"""One pass through a model with some sites read and some written, by hooks that are gone when it ends.

A pass is planned as steps grouped by place (a side of a module); each place gets one hook. The pass stops by a private
exception once every place with something to read or write has been visited.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from actscope.core.errors import BadInput, UnknownSite
from actscope.core.intervention import Context, Intervention
from actscope.core.site import Site
from actscope.subjects._taps import Side, Tap, Value, part_of, with_part

Place = tuple[str, Side]
_running = threading.local()


class Stop(Exception):
    """Everything asked for has been seen."""


class Step(NamedTuple):
    """What happens at one site: the writes in the order given, then the reads, the whole before its parts."""

    tap: Tap
    site: Site
    writes: tuple[tuple[Site, Intervention], ...]
    keep: tuple[Site, ...]


class Pass:
    """The state of one run. `seen` holds the value at every site kept, `valid` which tokens stand there, where not all do.

    context: what an intervention may know, by the stack of its site. tokens: (b, t), where a module that works on all b t
    tokens in one row of rows still has sites [b t d].
    """

    def __init__(
        self,
        steps: Mapping[Place, Sequence[Step]],
        needed: set[Place],
        *,
        context: Callable[[str], Context],
        grad: bool,
        stops: bool,
        tokens: tuple[int, int] | None = None,
    ):
        self.steps = steps
        self.left = set(needed)
        self.visited: set[Place] = set()
        self.seen: dict[Site, Tensor] = {}
        self.valid: dict[Site, Tensor] = {}
        self.stops = stops
        self.grad = grad
        self.tokens = tokens
        self.attend: Callable | None = None  # attention in the open, where a site inside it is asked for
        self._make_context = context
        self._contexts: dict[str, Context] = {}

    def visit(self, place: Place, x: Any, module: nn.Module, given: Tensor) -> Any:
        """Do the steps of a place; returns the tensor that goes on. Raises Stop when nothing is left to do."""
        if place in self.visited:
            raise BadInput(f"The module {place[0]} runs more than once in a pass, so it cannot be read or written as one site.")
        x = self.at(self.steps[place], x, module, given)
        self.done(place)
        return x

    def done(self, place: Place) -> None:
        self.visited.add(place)
        self.left.discard(place)
        if self.stops and not self.left:
            raise Stop

    def at(self, steps: Sequence[Step], x: Any, module: nn.Module, given: Tensor) -> Any:
        if self.tokens is not None and isinstance(x, Tensor) and x.dim() == 2 and len(x) == self.tokens[0] * self.tokens[1]:
            before, x, given = x, x.unflatten(0, self.tokens), given.unflatten(0, self.tokens)
            after = self._steps(steps, x, module, given, flat=True)
            return before if after is x and not self.grad else after.flatten(0, 1)
        return self._steps(steps, x, module, given)

    def _steps(self, steps: Sequence[Step], x: Any, module: nn.Module, given: Tensor, flat: bool = False) -> Any:
        for step in steps:
            x = self._step(step, x, module, given, flat)
        return x

    def _step(self, step: Step, x: Any, module: nn.Module, given: Tensor, flat: bool) -> Any:
        tap = step.tap
        value: Any = tap.get(x, module, given)
        changed = bool(step.writes) or (flat and self.grad and bool(step.keep))  # a view of x is not on the way to the logits
        if changed and tap.shared:
            value = value.clone()  # the tensor itself is about to be overwritten
        for site, intervention in step.writes:
            value = self._written(value, site, intervention)
        for site in step.keep:
            if site.part is None:
                self.seen[site] = value
                continue
            part = part_of(value, site.kind, site.part)
            if self.grad:  # what is read must lie on the way to the logits
                value = with_part(value, site.kind, site.part, part)
                changed = True
            self.seen[site] = part if self.grad else part.contiguous()
        if changed or (self.grad and step.keep and not tap.plain):
            return tap.put(x, value, module, given)
        return x

    def _written(self, value: Any, site: Site, intervention: Intervention) -> Value:
        if site.stack not in self._contexts:
            self._contexts[site.stack] = self._make_context(site.stack)
        known = self._contexts[site.stack]
        mask = known.mask & self.valid[site] if site in self.valid else known.mask
        try:
            seen = {name: self.seen[name] for name in intervention.reads}
        except KeyError as error:
            raise BadInput(
                f"The intervention at {site} reads {error.args[0]}, which the model computes later; an intervention may "
                "read only what stands before its own site."
            ) from error
        x = value if site.part is None else part_of(value, site.kind, site.part)
        new = intervention(x, known._replace(seen=seen, mask=mask))
        if new.shape != x.shape or new.dtype != x.dtype:
            raise BadInput(
                f"The intervention {type(intervention).__name__} at {site} gave {new.dtype} {tuple(new.shape)} where "
                f"{x.dtype} {tuple(x.shape)} stood; expected the same shape and type."
            )
        return new if site.part is None else with_part(value, site.kind, site.part, new)

    @contextlib.contextmanager
    def hooked(self, modules: Mapping[str, nn.Module]) -> Iterator[None]:
        """Inside, the model's modules call this pass; afterwards no hook is left, whatever happened."""
        handles = []
        outer = getattr(_running, "current", None)
        _running.current = self
        try:
            for place in self.steps:
                path, side = place
                module = modules[path]
                if side == "in":
                    handles.append(module.register_forward_pre_hook(_before(self, place), with_kwargs=True))
                elif side == "out":
                    handles.append(module.register_forward_hook(_after(self, place)))
            yield
        finally:
            _running.current = outer
            for handle in handles:
                handle.remove()

    def check_finished(self) -> None:
        """Raises UnknownSite when the model ended without passing a place that was asked for."""
        if self.left:
            path, side = sorted(self.left)[0]
            raise UnknownSite(f"The module {path} (its {side}put) did not run in this pass, so there is nothing to read there.")


def running() -> Pass | None:
    """The pass that is running in this thread."""
    return getattr(_running, "current", None)


@contextlib.contextmanager
def standing_in(module: nn.Module, method: str, function: Callable) -> Iterator[None]:
    """Inside, `function` is what the module has as this method."""
    own = vars(module).get(method)
    vars(module)[method] = function
    try:
        yield
    finally:
        if own is None:
            del vars(module)[method]
        else:
            vars(module)[method] = own


def _before(this: Pass, place: Place) -> Callable:
    def hook(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        if running() is not this:  # a run inside an intervention, on the same modules
            return None
        if args and isinstance(args[0], Tensor):
            x = args[0]
            new = this.visit(place, x, module, x)
            return None if new is x else ((new, *args[1:]), kwargs)
        name = next((key for key, value in kwargs.items() if isinstance(value, Tensor)), None)
        if name is None:
            raise BadInput(f"The module {place[0]} takes no tensor as its first input, so its input cannot be read.")
        x = kwargs[name]
        new = this.visit(place, x, module, x)
        return None if new is x else (args, {**kwargs, name: new})

    return hook


def _after(this: Pass, place: Place) -> Callable:
    def hook(module: nn.Module, args: tuple, output: Any) -> Any:
        if running() is not this:
            return None
        if isinstance(output, Tensor):
            new = this.visit(place, output, module, args[0] if args else output)
            return None if new is output else new
        if isinstance(output, tuple | list) and output and isinstance(output[0], Tensor):
            new = this.visit(place, output[0], module, args[0] if args else output[0])
            return None if new is output[0] else type(output)((new, *output[1:]))
        logits = getattr(output, "logits", None)
        if isinstance(logits, Tensor):  # what a whole model of transformers gives
            setattr(output, "logits", this.visit(place, logits, module, logits))  # noqa: B010
            return output
        raise BadInput(f"The module {place[0]} gives a {type(output).__name__}, not a tensor; read one of its parts instead.")

    return hook
