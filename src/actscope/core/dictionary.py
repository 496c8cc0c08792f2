"""Dictionaries: vectors at some ports -> sparse codes -> vectors at some ports.

SAE: writes == reads. Transcoder: mlp_in -> mlp_out. Crosscoder: many -> the same many.
Letters: n rows, d width of a port, m latents.
"""

import abc
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from actscope.core.batch import Batch
from actscope.core.codes import Codes
from actscope.core.errors import BadInput
from actscope.core.site import Port, Site

Widths = Mapping[str, int] | Mapping[Site, int] | Mapping[Port, int] | Mapping[str | Site | Port, int]


@runtime_checkable
class FusedStep(Protocol):
    """One training step written by hand. It owns parameters and moments while training and clips by itself; equality
    with the autograd path is tested."""

    def step(self, batch: Batch, lr: float, progress: float) -> dict[str, float]: ...
    def after_step(self, progress: float) -> None: ...
    def state(self) -> dict[str, Tensor]: ...
    def load(self, state: Mapping[str, Tensor]) -> None: ...


@runtime_checkable
class Trainable(Protocol):
    """All that the training loop knows of what it trains."""

    def parameters(self) -> Iterator[nn.Parameter]: ...
    def begin(self, batch: Batch) -> None:
        """Initialise from the first batch (bias from its mean, scale from its norms)."""
        ...

    def objective(self, batch: Batch, *, progress: float) -> dict[str, Tensor]:
        """Named losses; "loss" is the one to descend, the others are shown. progress: 0 at the start, 1 at the end."""
        ...

    def after_step(self, progress: float) -> None: ...
    def state(self) -> dict[str, Tensor]:
        """Everything a checkpoint must hold: parameters, buffers, counters."""
        ...

    def load(self, state: Mapping[str, Tensor]) -> None: ...
    def fused(self, plan: object) -> FusedStep | None: ...


class TrainableModule(nn.Module, abc.ABC):
    """A module with every member of Trainable; what it descends on is its own."""

    def begin(self, batch: Any) -> None:
        """Default: nothing to initialise."""

    @abc.abstractmethod
    def objective(self, batch: Any, *, progress: float) -> dict[str, Tensor]: ...

    def after_step(self, progress: float) -> None:
        """Default: nothing to do."""

    def state(self) -> dict[str, Tensor]:
        return dict(self.state_dict())

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.load_state_dict(dict(state))

    def fused(self, plan: object) -> FusedStep | None:
        """Default: no hand-written step; the loop uses autograd."""
        return None


class Dictionary(nn.Module, abc.ABC):
    """Constructor = configuration: `Method(reads={site: width}, writes={site: width}, n_latents=..., ...)`.

    decode is affine in the codes: codes @ atoms + bias (+ skip(x) where the method has one). In eval mode a row's
    codes depend on that row alone.
    """

    needs: frozenset[str] = frozenset()  # {"grads"}: what else a batch must hold to be trained on
    departures: ClassVar[Mapping[str, str]] = {}  # contract checks that the paper itself breaks -> why

    def __init__(self, *, reads: Widths, writes: Widths | None, n_latents: int, settings: Mapping[str, object]):
        """writes=None: the same ports as reads. settings: the method's own keywords, kept unchanged."""
        super().__init__()
        self.reads: dict[Port, int] = {Port.parse(name): width for name, width in reads.items()}
        self.writes = self.reads if writes is None else {Port.parse(name): width for name, width in writes.items()}
        if n_latents < 1 or min([*self.reads.values(), *self.writes.values(), 1]) < 1 or not self.reads:
            raise BadInput(f"n_latents={n_latents}, reads={reads}, writes={writes}: every width must be at least 1.")
        self.n_latents = n_latents
        self.settings = dict(settings)
        self.probes: dict[str, dict[Port, Tensor]] = {}  # real rows whose codes are checked when it is opened; see probe.py
        self.subject = ""  # fingerprint of the subject it was trained on; set by fit, checked by whoever runs it

    @property
    def read(self) -> Port:
        """The one port read. Raises BadInput for a dictionary of several."""
        return _only(self.reads, "reads")

    @property
    def write(self) -> Port:
        return _only(self.writes, "writes")

    @property
    def ports(self) -> list[Port]:
        """Those read, then those only written."""
        return list(dict.fromkeys([*self.reads, *self.writes]))

    def joined(self, x: Mapping[Port, Tensor] | Tensor) -> Float[Tensor, "n d"]:
        """The vectors of every read port side by side. A lone tensor is taken for the one port."""
        parts = [x] if isinstance(x, Tensor) else [x[port] for port in self.reads]
        width = sum(self.reads.values())
        joined = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        if joined.shape[-1] != width:
            raise BadInput(f"Vectors of width {joined.shape[-1]} given; {', '.join(map(str, self.reads))} has width {width}.")
        return joined

    def needed(self, write: Port) -> list[Port]:
        """The ports read on which what is decoded at `write` depends. Default: all."""
        return list(self.reads)

    @abc.abstractmethod
    def preacts(self, x: Mapping[Port, Tensor] | Tensor) -> Float[Tensor, "n m"]:
        """What the selection chooses from."""

    @abc.abstractmethod
    def encode(self, x: Mapping[Port, Tensor] | Tensor, *, grads: Mapping[Port, Tensor] | None = None) -> Codes: ...

    @abc.abstractmethod
    def decode(self, codes: Codes, x: Mapping[Port, Tensor] | Tensor | None = None) -> dict[Port, Tensor]:
        """Vectors at every write port. `x` is needed where the method has a skip path."""

    @property
    @abc.abstractmethod
    def atoms(self) -> dict[Port, Tensor]:
        """Port -> Float[m d]: what one unit of each latent adds there."""


class Learned(Dictionary, TrainableModule):
    """A dictionary trained by gradient."""

    @property
    def rate(self) -> float:
        """The highest learning rate of Adam where the plan names none."""
        return 1e-3


class Solved(Dictionary):
    """A dictionary with an algorithm of its own."""

    @abc.abstractmethod
    def solve(self, batches: Callable[[], Iterator[Batch]]) -> None:
        """Fit to the data. `batches()` starts a new pass each time it is called."""


def _only(ports: Mapping[Port, int], which: str) -> Port:
    if len(ports) != 1:
        raise BadInput(f"This dictionary {which} {len(ports)} ports ({', '.join(map(str, ports))}); one was expected.")
    return next(iter(ports))
