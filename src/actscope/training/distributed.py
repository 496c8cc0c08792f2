"""The processes that torchrun started, and what each of them does.

They share out the rows of every batch, or with `latents_over` also the latents of the dictionary. What is computed is what one
process computes, up to the order of sums: batches, order and decisions do not depend on how many there are. Sums go through
torch.distributed: gloo between CPUs, nccl between accelerators.
"""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from actscope.core import group, lock
from actscope.core.errors import BadInput, UsageError
from actscope.core.group import Group, Rows
from actscope.training.plan import Plan
from actscope.training.shards import Layout

T = TypeVar("T")


@dataclass(frozen=True)
class Mesh:
    """every: all processes, which exchange words and files on the CPU. rows, latents: those that share out either."""

    every: Group
    rows: Rows
    latents: Group

    @property
    def first(self) -> bool:
        """Whether this process writes the files and speaks for all."""
        return self.every.rank == 0

    def together(self, work: Callable[[], T]) -> T:
        """Do `work` here while the others do theirs. Where one fails with an error of ours, all raise it."""
        return self.every.together(work)

    def first_does(self, work: Callable[[], object]) -> None:
        """The first process works, the others wait; an error of it is everyone's."""
        self.every.first_does(work)

    @contextlib.contextmanager
    def alone(self, out: Path) -> Iterator[None]:
        """Be the only run that writes the folder, made if it is not there."""
        with contextlib.ExitStack() as held:
            self.first_does(lambda: held.enter_context(_locked(out)))
            yield

    def any(self, *flags: bool) -> list[bool]:
        """Which flags are up in any process."""
        if self.every.size == 1:
            return list(flags)
        return self.rows.any(self.latents.any(torch.tensor(flags))).tolist()

    def own(self, plan: Plan) -> Plan:
        """The plan on this process's own device: "cuda" means one for each process of a machine."""
        if self.every.size == 1 or plan.device != "cuda":
            return plan
        return dataclasses.replace(plan, device=f"cuda:{os.environ.get('LOCAL_RANK', 0)}")

    def alike(self, identity: object) -> None:
        """Raises UsageError unless every process was asked for the same."""
        said = self.every.told(identity)
        if any(other != said[0] for other in said):
            raise UsageError(
                "The processes of this run were asked to fit different things; under torchrun every process calls fit with the "
                "same dictionary, store and plan. For fits that are independent start each without torchrun."
            )

    def layout(self, split: frozenset[str]) -> Layout:
        """How a state is cut into files."""
        return Layout(self.every, self.rows, self.latents, split if self.latents.size > 1 else frozenset())

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Inside, whatever asks for its group gets this mesh's."""
        with group.working(self.rows, self.latents):
            yield

    @torch.no_grad()
    def agree(self, trainable: Any) -> None:
        """Everyone has what the first process has."""
        named = trainable.state()
        split = by_latent(trainable) if self.latents.size > 1 else frozenset()
        self.rows.first_says(*named.values())
        self.latents.first_says(*(value for name, value in named.items() if name not in split))

    @contextlib.contextmanager
    def split(self, trainable: Any) -> Iterator[None]:
        """Inside, the dictionary has this process's latents alone; afterwards it is whole again, on the CPU. An error leaves
        it as it is."""
        if self.latents.size == 1:
            yield
            return
        names = by_latent(trainable)
        tensors = {name: tensor for name, tensor in _tensors(trainable) if name in names}
        for tensor in tensors.values():
            tensor.data = tensor.data[slice(*self.latents.bounds(len(tensor)))].clone()
        yield
        trainable.to("cpu")
        for name, tensor in _tensors(trainable):
            if name in names:
                tensor.data = torch.cat(self.latents.gathered(tensor.data))


ALONE = Mesh(Group(), Rows(), Group())


def mesh(device: str, latents_over: int) -> Mesh:
    """The processes of this run: those torchrun started, or of the process group that is there already; else one.

    latents_over: how many share out the latents; the others share out rows. Raises UsageError where it does not divide.
    """
    size = group.size_of_run()
    if latents_over < 1 or size % latents_over:
        raise UsageError(
            f"latents_over={latents_over} in a run of {size} process{'es' * (size > 1)}; expected a number that divides them. "
            f"Start it with torchrun --nproc-per-node {max(latents_over, 1)}."
        )
    if size == 1:
        return ALONE
    with group.watched():
        group.begin(_backend(device), group.PATIENCE)
        return _mesh(latents_over, _backend(device))


def _backend(device: str) -> str:
    return "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"


@functools.cache
def _mesh(latents_over: int, backend: str) -> Mesh:
    size = dist.get_world_size()
    every = group.connected(group.WRITING)
    ranks = torch.arange(size).view(-1, latents_over)  # neighbours share out latents
    shares = [ranks.T.tolist(), ranks.tolist()]
    found = [[group.connected(group.PATIENCE, one, backend) for one in kind] for kind in shares]
    mine = [
        next(made for made, one in zip(*pair, strict=True) if dist.get_rank() in one)
        for pair in zip(found, shares, strict=True)
    ]
    return Mesh(Group(every), Rows(mine[0]) if size > latents_over else Rows(), Group(mine[1]) if latents_over > 1 else Group())


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out} is a file; expected a new or empty folder, or one that a fit began.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"Cannot make the folder {out}: {error.strerror}. Give another one with --out.") from error
    with lock.hold(out):
        yield


def by_latent(trainable: Any) -> frozenset[str]:
    """The parameters and buffers with one row a latent. Raises UsageError where the trainable does not name them."""
    names = getattr(trainable, "by_latent", frozenset())
    if not names:
        raise UsageError(f"The latents of a {type(trainable).__name__} cannot be split over processes; leave latents_over out.")
    return names


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]
