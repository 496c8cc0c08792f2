"""The one loop. It knows `Trainable` and `Solved`, and no method's name."""

import contextlib
import dataclasses
import itertools
import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from actscope.core import artifact, files, group, methods, probe
from actscope.core.dictionary import Dictionary, Solved, Trainable
from actscope.core.errors import Interrupted, NotFinite
from actscope.core.progress import Progress, quiet, stop_requested
from actscope.training import distributed
from actscope.training.checkpoint import Checkpoints, Saved
from actscope.training.descent import descent
from actscope.training.distributed import Mesh
from actscope.training.feed import Cursor, Feed
from actscope.training.plan import Plan
from actscope.training.schedule import rate

T = TypeVar("T")
SECONDS_BETWEEN_CHECKPOINTS = 30.0
SKIPS_ALLOWED = 10  # batches without a finite loss; beyond these, and 1 in 100, the run is stopped
DIVERGED = 1e3  # times the first loss


def fit(
    trainable: T,
    source: Any,
    plan: Plan,
    *,
    out: Path | str | None = None,
    progress: Progress = quiet,
    latents_over: int = 1,
) -> T:
    """Train `trainable` on `source` as `plan` says, and return it.

    trainable: a `Trainable`, or a `Solved` dictionary, whose own algorithm runs.
    source: a Store for dictionaries, read at their ports; for others anything with `batches(size, *, seed, start)`, which
        gives batches from number `start` on in an order that depends on the seed alone, without end or pass by pass.
    out: a folder for checkpoints and the result. The same call again goes on from the last checkpoint, to bitwise the
        result of an uninterrupted run (on CPU); when it is finished already the result is loaded. None: no files.
    latents_over: processes that share out the latents, for a dictionary too large for one device; it comes back whole, on the
        CPU.
    Under torchrun every process makes the same call, and the rows of each batch are shared out: batches, order and result are
    those of one process but for the order of sums. A run may go on with another number of processes. One that dies ends the
    others with Lost, and what was committed stands.
    Raises NotFinite when losses stop being finite or grow without bound, naming the last good checkpoint; Interrupted when
    asked to stop, after committing; BadInput when `out` holds a run with other settings; UsageError for latents that cannot be
    split so, and where processes ask for different things; EmptyCorpus; DiskFull.
    """
    mesh = distributed.mesh(plan.device, latents_over)
    ports = trainable.ports if isinstance(trainable, Dictionary) else getattr(trainable, "ports", [])
    feed = Feed(source, plan, ports, grads="grads" in getattr(trainable, "needs", ()))
    identity = _identity(trainable, feed, plan)
    mesh.alike([identity, str(out)])
    work = _Work(trainable, feed, mesh.own(plan), mesh, progress if mesh.first else quiet)
    if out is None:
        _train(work, None, torch.get_num_threads())
    else:
        with mesh.alone(Path(out)):
            _train_into(work, Checkpoints(out, identity, mesh), identity)
    if isinstance(trainable, nn.Module):
        trainable.eval()
    return trainable


class _Work(NamedTuple):
    """What is to be done, and by whom."""

    trainable: Any
    feed: Feed
    plan: Plan
    mesh: Mesh
    progress: Progress


def _train_into(work: _Work, kept: Checkpoints, identity: Mapping[str, object]) -> None:
    """Train, or go on, or load what is finished, in the folder of `kept`."""
    if kept.finished:
        if isinstance(work.trainable, nn.Module):
            work.trainable.to(work.plan.device, getattr(torch, work.plan.dtype))
        _restore(work.trainable, kept.final())
        _stamp(work)
    else:
        found = _train(work, kept, kept.threads)
        record = {**identity, "threads": kept.threads, **found}
        work.mesh.first_does(lambda: _save(work.trainable, kept.out, record))
    kept.clear()


def _train(work: _Work, kept: Checkpoints | None, threads: int) -> dict[str, Any]:
    """All the work there is; returns what the loop found out on the way."""
    trainable, feed, plan = work.trainable, work.feed, work.plan
    found: dict[str, Any] = {}
    with _same_machine(plan, threads), work.mesh.split(trainable):
        if isinstance(trainable, nn.Module):
            trainable.to(plan.device, getattr(torch, plan.dtype)).train()
        if isinstance(trainable, Solved):
            trainable.solve(lambda: _one_pass(feed, plan))
        else:
            found = _Loop(work, kept).run()
    _stamp(work)
    return found


def _stamp(work: _Work) -> None:
    """Which subject a dictionary belongs to, and rows of it to know the dictionary by."""
    if isinstance(work.trainable, Dictionary):
        work.trainable.subject = work.feed.source.subjects.get(work.feed.ports[0].subject, "")
        probe.keep(work.trainable, next(_one_pass(work.feed, work.plan)))


class _Loop:
    """A run in progress: what it trains, where the data stands, and what it has seen so far."""

    def __init__(self, work: _Work, kept: Checkpoints | None):
        self.trainable: Trainable
        self.trainable, self.feed, self.plan, self.mesh, self.progress = work
        self.kept, plan, feed = kept, work.plan, work.feed
        self.lr = getattr(work.trainable, "rate", 1e-3) if plan.lr is None else plan.lr
        self.step, self.cursor = 0, Cursor()
        self.history: list[dict[str, float]] = []
        self.sums: dict[str, Tensor] = {}  # of the losses since the last line of history
        self.skipped = torch.zeros((), device=plan.device)
        self.between = max(1, min(20, feed.steps // 50))  # steps between lines of history

    def run(self) -> dict[str, Any]:
        """All the steps that are left; returns {"losses", "skipped"}."""
        saved = None if self.kept is None else self.kept.latest(self._split)
        if saved is None:
            first, _ = next(self.feed.batches(self.cursor))
            with group.working(group.Rows(), self.mesh.latents):  # everyone begins with the whole of the first batch
                self.trainable.begin(self._here(first))
            self.mesh.agree(self.trainable)
        with self.mesh.working():
            return self._descend(saved)

    def _descend(self, saved: Saved | None) -> dict[str, Any]:
        self.descent = descent(self.trainable, self.plan)
        if saved is not None:
            self._resume(saved.tensors, saved.values)
        committed = time.monotonic()
        left = itertools.islice(self.feed.batches(self.cursor, self.mesh.rows), self.feed.steps - self.step)
        for batch, cursor in left:
            self._one(self._here(batch))
            self.cursor = cursor
            due = self.step % self.plan.every == 0 if self.plan.every else time.monotonic() - committed > _seconds()
            due, stop = self.mesh.any(due and self.mesh.first, stop_requested())
            if self.kept is not None and due:
                self._commit()
                committed = time.monotonic()
            if stop and self.step < self.feed.steps:
                self._stop()
            files.fault_point("fit.step")
        return {"losses": self.history, "skipped": int(self.skipped)}

    def _one(self, batch: Any) -> None:
        lr = rate(self.plan, self.lr, self.step, self.feed.steps)
        losses, bad = self.descent.step(batch, lr, self.step / self.feed.steps)
        self.step += 1
        self.descent.after_step(self.step / self.feed.steps)
        self.skipped = self.skipped + bad
        good = {**losses, "_good": torch.ones_like(bad)}
        for name, loss in good.items():
            value = torch.where(bad > 0, 0.0, loss.float())
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        if self.step % self.between == 0 or self.step == self.feed.steps:
            self._line()

    def _line(self) -> None:
        """Read the losses off the device, judge them, and say where the run is."""
        sums = {name: float(value) for name, value in self.sums.items()}
        self._judge(sums)
        if sums["_good"] > 0:
            line = {name: value / sums["_good"] for name, value in sums.items() if name != "_good"}
            self.history.append({"step": self.step, **line})
            self.sums = {}
        last = self.history[-1] if self.history else {}
        self.progress(self.step, self.feed.steps, _note(last))

    def _judge(self, sums: dict[str, float]) -> None:
        """Raise NotFinite when too many batches were skipped or the loss has left the ground."""
        kept = "nothing was saved (no out=)" if self.kept is None else self.kept.newest()
        skipped = int(self.skipped)
        if skipped > SKIPS_ALLOWED + self.step // 100:
            raise NotFinite(
                f"{skipped} of {self.step} batches had no finite loss or gradient; look for NaN in the rows, or lower "
                f"Plan(lr={self.lr:g}); {kept}."
            )
        loss = sums["loss"] / max(sums["_good"], 1)
        first = self.history[0]["loss"] if self.history else math.inf
        if loss > DIVERGED * max(abs(first), 1e-3):
            raise NotFinite(
                f"The loss went from {first:.4g} to {loss:.4g} by step {self.step}: training diverged; lower "
                f"Plan(lr={self.lr:g}); {kept}."
            )

    def _stop(self) -> None:
        where = f"Stopped after {self.step} of {self.feed.steps} steps"
        if self.kept is None:
            raise Interrupted(f"{where}; nothing was saved, for no out= was given.")
        self._commit()
        raise Interrupted(f"{where}, saved in {self.kept.out}; the same command goes on from there.")

    def _commit(self) -> None:
        if self.kept is None:
            return
        self._judge({"loss": 0.0, "_good": 1.0, **{name: float(value) for name, value in self.sums.items()}})
        tensors = {f"model.{name}": value for name, value in self.trainable.state().items()}
        tensors |= {f"descent.{name}": value for name, value in self.descent.state().items()}
        tensors |= {f"sums.{name}": value for name, value in self.sums.items()}
        tensors |= {f"random.{name}": value for name, value in _random_state(self.plan.device).items()}
        values = {"cursor": list(self.cursor), "history": self.history, "skipped": int(self.skipped)}
        self.kept.commit(self.step, tensors, values, self._split)

    @property
    def _split(self) -> frozenset[str]:
        """The tensors of the state of which this process holds some latents' rows."""
        if self.mesh.latents.size == 1:
            return frozenset()
        names = distributed.by_latent(self.trainable)
        moved = [number for number, (name, _) in enumerate(self.trainable.named_parameters()) if name in names]  # type: ignore[attr-defined]
        return frozenset(
            [f"model.{name}" for name in names]
            + [f"descent.{which}.{number}" for which in ("first", "second") for number in moved]
        )

    def _resume(self, tensors: dict[str, Tensor], values: dict) -> None:
        def part(of: str) -> dict[str, Tensor]:
            return {name.removeprefix(of + "."): value.clone() for name, value in tensors.items() if name.startswith(of + ".")}

        self.trainable.load(part("model"))
        self.descent.load(part("descent"))
        self.sums = {name: value.to(self.plan.device) for name, value in part("sums").items()}
        _set_random_state(part("random"), self.plan.device)
        self.step, self.cursor, self.history = values["step"], Cursor(*values["cursor"]), values["history"]
        self.skipped = torch.tensor(float(values["skipped"]), device=self.plan.device)

    def _here(self, batch: Any) -> Any:
        return _placed(batch, self.feed, self.plan)


def _placed(batch: Any, feed: Feed, plan: Plan) -> Any:
    if feed.is_store:
        return batch.to(plan.device, getattr(torch, plan.dtype))
    return batch.to(plan.device) if hasattr(batch, "to") else batch


def _one_pass(feed: Feed, plan: Plan) -> Iterator[Any]:
    """The rows the plan asks for, once, in a fixed order: what a Solved method sees each time it looks."""
    if plan.rows is None:
        batches = feed.source.batches(feed.ports, feed.size, seed=None, **feed.extra)
    else:
        batches = (batch for batch, _ in itertools.islice(feed.batches(Cursor()), feed.steps))
    return (_placed(batch, feed, plan) for batch in batches)


def _identity(trainable: object, feed: Feed, plan: Plan) -> dict[str, object]:
    """What must be the same for a run to be resumed, as JSON."""
    what: dict[str, object] = {"type": type(trainable).__name__, "settings": getattr(trainable, "settings", None)}
    if isinstance(trainable, Dictionary):
        what["type"] = methods.name_of("dictionaries", trainable)
        what["latents"] = trainable.n_latents
        what["writes"] = {str(port): width for port, width in trainable.writes.items()}
        what["reads"] = {str(port): width for port, width in trainable.reads.items()}
    planned = {name: str(v) if v == math.inf else v for name, v in dataclasses.asdict(plan).items() if name != "every"}
    identity = {"trainable": what, "plan": planned, "source": feed.identity}
    return json.loads(json.dumps(identity, allow_nan=False))


def _restore(trainable: Any, tensors: dict[str, Tensor]) -> None:
    own = probe.restore(trainable, tensors) if isinstance(trainable, Dictionary) else tensors
    load = trainable.load if isinstance(trainable, Trainable) else trainable.load_state_dict
    load(own)


def _save(trainable: Any, out: Path, record: dict[str, Any]) -> None:
    """The finished thing in place of the run's own manifest."""
    if isinstance(trainable, Dictionary):
        artifact.save(trainable, out, fit=record)
        return
    digest = files.write_tensors(out / "state.safetensors", trainable.state())
    artifact.commit(out, {"kind": "trained", "files": {"state.safetensors": digest}, "extra": {"fit": record}})


def _seconds() -> float:
    return SECONDS_BETWEEN_CHECKPOINTS


@contextlib.contextmanager
def _same_machine(plan: Plan, threads: int) -> Iterator[None]:
    """The thread count the run began with, for sums depend on it, and a generator of its own for whatever draws."""
    before = torch.get_num_threads()
    cuda = [torch.device(plan.device)] if plan.device.startswith("cuda") else []
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=cuda), torch.enable_grad():
            torch.manual_seed(plan.seed)
            yield
    finally:
        torch.set_num_threads(before)


def _random_state(device: str) -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if device.startswith("cuda"):
        state["cuda"] = torch.cuda.get_rng_state(torch.device(device))
    return state


def _set_random_state(state: dict[str, Tensor], device: str) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], torch.device(device))


def _note(losses: Mapping[str, float | int]) -> str:
    """The last losses in a few words; of several members, whose losses are called "member loss", the range of each kind."""
    members = any(" " in name for name in losses)
    kinds: dict[str, list[float | int]] = {}
    for name, value in losses.items():
        if name != "step" and (" " in name) == members:
            kinds.setdefault(name.rpartition(" ")[2], []).append(value)
    ranges = {kind: f"{min(v):.4g}" if len(v) == 1 else f"{min(v):.4g} to {max(v):.4g}" for kind, v in kinds.items()}
    return " ".join(f"{kind} {said}" for kind, said in ranges.items())
