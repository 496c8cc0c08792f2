"""A subject made of a torch module that is read and written through hooks.

Letters: b batch, t tokens.
"""

import abc
import copy
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from actscope.core.change import Change
from actscope.core.errors import BadInput, UnknownSite, nearest
from actscope.core.inputs import Inputs, Run
from actscope.core.intervention import Intervention, flatten
from actscope.core.site import Site, SiteInfo, resolve
from actscope.subjects._clone import apply_deltas, clone, hash_change, hash_weights
from actscope.subjects._hooks import Pass, Place, Step, Stop
from actscope.subjects._taps import Tap

LOGITS = Site("logits")
Planned = dict[Place, list[Step]]


S = TypeVar("S", bound="HookedSubject")


class HookedSubject(abc.ABC):
    """What HFSubject and wrapped modules share. Runs of one subject from several threads take turns."""

    caches = False  # whether a run gives a cache to run on from
    causal: bool = True

    def __init__(self, model: nn.Module, name: str, taps: Mapping[Site, Tap], missing: Mapping[str, str], context: int):
        self.name = name
        self.taps = taps
        self.sites: Mapping[Site, SiteInfo] = MappingProxyType({site: tap.info for site, tap in taps.items()})
        self.order: Sequence[Site] = tuple(taps)
        self.missing = MappingProxyType(dict(missing))
        self.context = context
        self._index = {site: number for number, site in enumerate(taps)}
        self._whole = {(tap.info.module, tap.info.side): site for site, tap in reversed(list(taps.items())) if tap.plain}
        self._standing: tuple[Intervention, ...] = ()
        self._fingerprint: str | Callable[[], str] = self._hash
        self._adopt(model)

    def _adopt(self, model: nn.Module) -> None:
        self.model: Any = model
        self.modules = dict(model.named_modules())
        self._first = next(model.parameters(), None)
        self._lock = threading.RLock()
        self._resolved: dict[Any, tuple[Site, ...]] = {}
        self._planned: dict[Any, Planned] = {}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of weights and tokenizer, in hexadecimal; computed when first asked for."""
        if not isinstance(self._fingerprint, str):
            self._fingerprint = self._fingerprint()
        return self._fingerprint

    @property
    def device(self) -> torch.device:
        return torch.device("cpu") if self._first is None else self._first.device

    def _hash(self) -> str:
        return hash_weights(self.weights())

    def weights(self) -> Mapping[str, Tensor]:
        """Every parameter and saved buffer by name; the model's own tensors, to read."""
        return MappingProxyType(dict(self.model.state_dict()))

    def changed(self: S, change: Change) -> S:
        """This subject with a change made. It shares every untouched parameter and leaves this one as it is.

        Raises UnknownSite for an intervention at a site it lacks, BadInput for a parameter it lacks or a shape that does
        not fit, NotFinite for NaN or infinity.
        """
        standing = tuple(flatten(change.interventions))
        self._names(item.site for item in standing)
        model = clone(self.model)
        apply_deltas(model, change.weights)
        other = copy.copy(self)
        other._adopt(model)
        other._standing = (*self._standing, *standing)
        if change.interventions or change.weights:
            other.name = f"{self.name}+{change.origin}" if change.origin else self.name
            other._fingerprint = lambda: hash_change(self.fingerprint, change)
        return other

    def _names(self, names: str | Site | Iterable[str | Site]) -> tuple[Site, ...]:
        """The sites that names stand for. Raises UnknownSite."""
        key = names if isinstance(names, str | Site) else tuple(names)
        found = self._resolved.get(key)
        if found is None:
            found = self._resolved[key] = tuple(resolve(key, self.sites, self.missing))
        return found

    def _tap(self, site: Site) -> tuple[Site, Tap]:
        """The whole site of the table that a site is, or is part of, and its tap; a module's own side is a site too."""
        whole = site.whole
        if whole in self.taps:
            return whole, self.taps[whole]
        _, path, side = whole.kind.split(":")
        if path not in self.modules:
            raise UnknownSite(
                f"This subject has no module {path!r}{nearest(path, self.modules)} Its paths are `model.named_modules()`."
            )
        same = self._whole.get((path, side))
        if same is not None:
            return same, self.taps[same]
        return whole, Tap(SiteInfo(("b", "t"), path, "in" if side == "in" else "out"), side)

    def _plan(self, read: tuple[Site, ...], write: Sequence[tuple[Site, Intervention]]) -> Planned:
        """Steps by place, in the model's order within a place."""
        if not write and read in self._planned:
            return self._planned[read]
        taps: dict[Site, Tap] = {}
        writes: dict[Site, list[tuple[Site, Intervention]]] = {}
        keeps: dict[Site, list[Site]] = {}
        for site, intervention in write:
            whole, taps[whole] = self._tap(site)
            writes.setdefault(whole, []).append((site, intervention))
            for seen in intervention.reads:
                self._names(seen)
                before, taps[before] = self._tap(seen)
                self._check_upstream(whole, site, before, seen)
                keeps.setdefault(before, []).append(seen)
        for site in read:
            whole, taps[whole] = self._tap(site)
            keeps.setdefault(whole, []).append(site)
        plan: Planned = {}
        for whole in sorted(taps, key=lambda site: self._index.get(site, len(self._index))):
            keep = sorted(dict.fromkeys(keeps.get(whole, ())), key=lambda site: site.part is not None)
            step = Step(taps[whole], whole, tuple(writes.get(whole, ())), tuple(keep))
            plan.setdefault(taps[whole].place, []).append(step)
        if not write:
            self._planned[read] = plan
        return plan

    def _check_upstream(self, whole: Site, site: Site, before: Site, seen: Site) -> None:
        last = len(self._index)
        if whole == before or self._index.get(before, last) > self._index.get(whole, last):
            raise BadInput(
                f"The intervention at {site} reads {seen}, which the model computes {'there' if whole == before else 'later'}; "
                "an intervention may read only what stands before its own site."
            )

    def run(
        self,
        inputs: Inputs | Tensor,
        *,
        read: str | Site | Iterable[str | Site] = (),
        write: Iterable[Any] = (),
        grad: bool = False,
        cache: Any = None,
        decoding: bool = False,
    ) -> Run:
        """Run a batch; see `actscope.core.subject.Subject.run`. With grad=True what is read keeps its graph, up to the logits.
        decoding=True, for who draws token after token: the cache given is not used again and may grow in place, logits may be
        of the last token alone where the site "logits" is not asked for, and inference tensors where nothing is.

        Raises UnknownSite, and BadInput for inputs that do not fit the model or interventions that do not fit their site.
        """
        if not isinstance(inputs, Inputs):
            inputs = self._inputs(inputs)
        if not (read or write or self._standing):
            with self._lock, torch.set_grad_enabled(grad):
                logits, _, after = self._execute(inputs, {}, set(), (), grad, cache, decoding)
            return Run(logits, {}, {}, after)
        wanted = self._names(read)
        given = [(self._names(item.site)[0], item) for item in flatten(write)]
        standing = [(self._names(item.site)[0], item) for item in self._standing]
        plan = self._plan(wanted, [*standing, *given])
        needed = {self._tap(site)[1].place for site in (*wanted, *(site for site, _ in given))}
        with self._lock, torch.set_grad_enabled(grad):
            logits, this, after = self._execute(inputs, plan, needed, wanted, grad, cache, decoding)
        valid = {site: this.valid[site] for site in wanted if site in this.valid}
        return Run(logits, {site: this.seen[site] for site in wanted}, valid, after)

    @abc.abstractmethod
    def _inputs(self, raw: Tensor) -> Inputs:
        """Inputs from a bare tensor."""

    @abc.abstractmethod
    def _execute(
        self, inputs: Inputs, plan: Planned, needed: set[Place], wanted: tuple[Site, ...], grad: bool, cache: Any,
        decoding: bool = False,
    ) -> tuple[Tensor | None, Pass, Any]:  # fmt: skip
        """(logits, the pass that was made, cache)."""

    def _forward(self, this: Pass, call: Callable[[], Any]) -> Any:
        """What `call` gives with the pass's hooks in place; None where it stopped early."""
        output = None
        with this.hooked(self.modules):
            try:
                output = call()
            except Stop:
                return None
        this.check_finished()
        return output
