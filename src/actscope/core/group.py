"""Processes that do one piece of work together, and the sums they need of each other.

The rows of a batch may be shared out over processes, and the latents of a dictionary. Maths that is more than a mean over rows,
or that looks at all latents of a row, asks `rows()` and `latents()` for what the others have; the training loop says who these
are. In a process by itself both are groups of one, and every call gives back what it was given.
"""

import atexit
import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function
from torch.distributed.distributed_c10d import PrefixStore, _set_pg_timeout
from torch.distributed.rendezvous import rendezvous

from actscope.core import errors
from actscope.core.errors import ActscopeError, Lost

T = TypeVar("T")
PATIENCE = timedelta(seconds=120)  # who does not answer for so long is taken for lost; who died is missed at once
WRITING = timedelta(minutes=30)  # the same where another may be writing files, or running a model
CONNECTING = timedelta(seconds=20)  # gloo tries five times so long to reach one that died while all were finding each other
_TORCHRUN = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}  # what it sets for every process


class Group:
    """`size` processes, of which this is number `rank`. of: torch's process group; None for a process by itself.

    Every method must be called by all of them alike. Raises Lost when one of them is gone or does not answer.
    """

    def __init__(self, of: Any = None):
        self.of = of
        self.rank = 0 if of is None else dist.get_rank(of)
        self.size = 1 if of is None else dist.get_world_size(of)

    def bounds(self, n: int) -> tuple[int, int]:
        """The share of n things that is this process's: from, to."""
        return self.rank * n // self.size, (self.rank + 1) * n // self.size

    def total(self, x: Tensor) -> Tensor:
        """The sum of every process's x. All of them go on from it to one loss, so its gradient is that of each x."""
        return x if self.size == 1 else _Replaced.apply(x, self._summed(x))  # type: ignore[return-value]

    def shared(self, x: Tensor) -> Tensor:
        """x, which all have, for work that each does a part of: its gradient is the sum of theirs."""
        return x if self.size == 1 or not x.requires_grad else _Copied.apply(x, self)  # type: ignore[return-value]

    def add_up(self, *tensors: Tensor) -> None:
        """Every tensor becomes the sum of every process's, in place."""
        if self.size > 1:
            begun: list[Any] = [self._call(lambda x=x: dist.all_reduce(x, group=self.of, async_op=True)) for x in tensors]
            self._call(lambda: [work.wait() for work in begun])

    def any(self, mask: Tensor) -> Tensor:
        """Where any process's mask holds."""
        return mask if self.size == 1 else self._summed(mask.to(torch.int32)) > 0

    def gathered(self, x: Tensor) -> list[Tensor]:
        """Every process's x, by rank. They may differ in length."""
        if self.size == 1:
            return [x]
        x = x.contiguous()
        lengths = x.new_zeros(self.size, dtype=torch.long)
        lengths[self.rank] = len(x)
        longest = int(self._summed(lengths, into=lengths).max())
        padded = x.new_zeros(longest, *x.shape[1:])
        padded[: len(x)] = x
        found = [torch.empty_like(padded) for _ in range(self.size)]
        self._call(lambda: dist.all_gather(found, padded, group=self.of))
        return [one[:length] for one, length in zip(found, lengths.tolist(), strict=True)]

    def first_says(self, *tensors: Tensor) -> None:
        """Every tensor becomes what it is in the first process, in place."""
        if self.size > 1:
            for x in tensors:
                whole = x.contiguous()
                self._call(lambda whole=whole: dist.broadcast(whole, group=self.of, group_src=0))
                x.copy_(whole)

    def told(self, value: object) -> list[Any]:
        """Every process's value, which JSON can say, by rank. The group must take tensors on the CPU."""
        if self.size == 1:
            return [value]
        said = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        return [json.loads(one.numpy().tobytes()) for one in self.gathered(said)]

    def exchanged(self, work: Callable[[], Any]) -> list[Any]:
        """Do `work` here while the others do theirs: what every process's gives, which JSON can say, by rank. Where one fails
        with an error of ours, all raise it."""
        failed: ActscopeError | None = None
        result: Any = None
        try:
            result = work()
        except Lost:
            raise
        except ActscopeError as error:
            failed = error
        said = self.told([result] if failed is None else [type(failed).__name__, str(failed)])
        if failed is not None:
            raise failed
        for rank, one in enumerate(said):
            if len(one) == 2:
                raise getattr(errors, one[0])(f"{one[1]} (This was process {rank} of {self.size}.)")
        return [one[0] for one in said]

    def together(self, work: Callable[[], T]) -> T:
        """`exchanged` for work whose result stays here, whatever it is."""
        kept: list[T] = []
        self.exchanged(lambda: kept.append(work()))
        return kept[0]

    def first_does(self, work: Callable[[], object]) -> None:
        """The first process works, the others wait; an error of it is everyone's."""
        self.together(lambda: work() if self.rank == 0 else None)

    def _summed(self, x: Tensor, into: Tensor | None = None) -> Tensor:
        found = x.detach().contiguous().clone() if into is None else into
        self._call(lambda: dist.all_reduce(found, group=self.of))
        return found

    def _call(self, collective: Callable[[], T]) -> T:
        with watched():
            return collective()


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """What torch raises inside when another process does not answer becomes Lost."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).split("\n")[0].split(". ")[0]
        raise Lost(
            f"A process of this run is gone or does not answer ({reason}); what was committed is intact. The same command "
            "goes on from there, with as many processes as you like."
        ) from error


def begun() -> bool:
    """Whether this process has a process group already."""
    return dist.is_available() and dist.is_initialized()


def size_of_run() -> int:
    """How many processes torchrun started, or the process group there is already has; else one."""
    return dist.get_world_size() if begun() else int(os.environ["WORLD_SIZE"]) if set(os.environ) >= _TORCHRUN else 1


def begin(backend: str, patience: timedelta) -> None:
    """Find the other processes of torchrun, unless that is done."""
    if begun():
        return
    store, rank, size = next(rendezvous("env://", timeout=patience))
    life = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # a store may still hold the addresses of those that died
    store = PrefixStore(f"life-{life}", store)
    _all_there(store, size, patience)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=CONNECTING)
    _set_pg_timeout(patience)
    atexit.register(_end)


def _all_there(store: Any, size: int, patience: timedelta) -> None:
    """Wait until every process has come this far: what follows takes no time, so whoever is late then has died."""
    if store.add("there", 1) == size:
        store.set("all there", "")
    store.wait(["all there"], patience)


def connected(patience: timedelta, ranks: list[int] | None = None, backend: str = "gloo") -> Any:
    """torch's process group of these ranks (None: all), made by all processes alike, in which who does not answer for
    `patience` is lost. One who died while it was being made is missed far sooner."""
    made: Any = dist.new_group(ranks, timeout=CONNECTING, backend=backend)
    if ranks is None or dist.get_rank() in ranks:
        _set_pg_timeout(patience, made)
    return made


def everyone() -> Group:
    """All processes of this run, which exchange words and wait for each other's files; alone a group of one."""
    if size_of_run() == 1:
        return Group()
    with watched():
        begin("gloo", PATIENCE)
        return _everyone(WRITING)


@functools.cache
def _everyone(patience: timedelta) -> Group:
    return Group(connected(patience))


def _end() -> None:
    if begun():
        dist.destroy_process_group()


class Rows(Group):
    """Processes that share out the rows of each batch. Gradients are summed, each with the weight `weight`, the share of the
    batch that its process holds: those of a loss that is a mean over rows are then those of one process."""

    weight = 1.0
    everyone: int | None = None  # rows of the batch in all

    def share(self, n: int) -> slice:
        """Which of a batch's n rows this process takes."""
        first, end = self.bounds(n)
        self.weight, self.everyone = (end - first) / n, n
        return slice(first, end)

    def count(self, n: int) -> int:
        """The rows of the batch in all, of which n are here."""
        return n if self.size == 1 or self.everyone is None else self.everyone

    def mean(self, x: Tensor) -> Tensor:
        """The mean over all rows of what x is the mean of here. Its gradient is that of x, for gradients are weighted later."""
        return x if self.size == 1 else _Replaced.apply(x, self._summed(x * self.weight))  # type: ignore[return-value]


class _Replaced(Function):
    """Another value in place of x; the gradient goes to x as it is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor) -> Tensor:
        return value

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


class _Copied(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.group._summed(grads[0]), None


_ALONE = (Rows(), Group())
_working: ContextVar[tuple[Rows, Group]] = ContextVar("working", default=_ALONE)


def rows() -> Rows:
    """Who shares out the rows of the batch at hand."""
    return _working.get()[0]


def latents() -> Group:
    """Who shares out the latents of the dictionary at hand."""
    return _working.get()[1]


@contextlib.contextmanager
def working(rows: Rows, latents: Group) -> Iterator[None]:
    """Inside, these are the groups."""
    before = _working.set((rows, latents))
    try:
        yield
    finally:
        _working.reset(before)
