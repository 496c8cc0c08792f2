"""Dictionaries and stores whose scores are known in closed form."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from actscope.core.batch import Batch
from actscope.core.codes import Codes
from actscope.core.dictionary import Dictionary, Learned
from actscope.core.inputs import Inputs
from actscope.core.labels import Labels
from actscope.core.site import Port

SITE = "layers.0.resid_post"
PORT = Port.parse(SITE)


class Rows:
    """A store of given rows; documents of `length` rows each."""

    def __init__(self, acts: dict[str, Tensor], length: int = 10, sequences: list[tuple[Inputs, Tensor]] = ()):
        self.acts = {Port.parse(name): x for name, x in acts.items()}
        self.ports = {port: x.shape[1] for port, x in self.acts.items()}
        n = len(next(iter(self.acts.values())))
        self.where = torch.stack([torch.arange(n) // length, torch.arange(n) % length], dim=1)
        self.documents = {int(number): f"d{number}" for number in torch.unique(self.where[:, 0])}
        self.subjects = {"": ""}
        self.content = ""
        self._sequences = sequences

    def __len__(self) -> int:
        return len(self.where)

    def rows(self, index: Tensor, ports: Iterable[Port]) -> Batch:
        return Batch({port: self.acts[port][index] for port in ports}, self.where[index])

    def batches(self, ports: Iterable[Port], size: int, *, seed: int | None = None, start: int = 0) -> Iterator[Batch]:
        ports = list(ports)
        for begin in range(start * size, len(self), size):
            yield self.rows(torch.arange(begin, min(begin + size, len(self))), ports)

    @property
    def text(self) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(self), dtype=torch.long), self.where

    def tokens(self, where: Tensor, before: int, after: int) -> Tensor:
        return torch.zeros(len(where), before + 1 + after, dtype=torch.long)

    def sequences(self, size: int, documents: Iterable[int] | None = None) -> Iterator[tuple[Inputs, Tensor]]:
        yield from self._sequences


class Linear(Learned):
    """codes = x @ encoder where positive; out = codes @ decoder + bias."""

    def __init__(self, encoder: Tensor, decoder: Tensor, bias: Tensor, reads: str = SITE, writes: str | None = None):
        writes_ = None if writes is None else {writes: decoder.shape[1]}
        super().__init__(reads={reads: encoder.shape[0]}, writes=writes_, n_latents=encoder.shape[1], settings={})
        self.encoder, self.decoder, self.bias = encoder, decoder, bias

    def preacts(self, x):
        return self.joined(x) @ self.encoder

    def encode(self, x, *, grads=None) -> Codes:
        return Codes.from_dense(self.preacts(x).clamp(min=0))

    def decode(self, codes, x=None):
        return {self.write: codes.dense() @ self.decoder + self.bias}

    @property
    def atoms(self):
        return {self.write: self.decoder}

    def objective(self, batch, *, progress):
        raise NotImplementedError


class Projections(Dictionary):
    """Not learned: its columns are the coordinates themselves."""

    def __init__(self, width: int, reads: str = SITE):
        super().__init__(reads={reads: width}, writes=None, n_latents=width, settings={})

    def preacts(self, x):
        return self.joined(x)

    def encode(self, x, *, grads=None) -> Codes:
        return Codes.from_dense(self.joined(x))

    def decode(self, codes, x=None):
        return {self.write: codes.dense()}

    @property
    def atoms(self):
        return {self.write: torch.eye(self.n_latents)}


def perfect(width: int, **ports) -> Linear:
    """Rebuilds any vector exactly from its positive and negative parts."""
    eye = torch.eye(width)
    return Linear(torch.cat([eye, -eye], dim=1), torch.cat([eye, -eye]), torch.zeros(width), **ports)


def constant(value: Tensor, **ports) -> Linear:
    """Always gives `value`: its one latent never fires."""
    width = len(value)
    return Linear(torch.zeros(width, 1), torch.zeros(1, width), value, **ports)


def labels_where(store: Rows, **holds: Tensor) -> Labels:
    keys = store.where[:, 0] * 2**32 + store.where[:, 1]
    return Labels({cause: keys[mask] for cause, mask in holds.items()})
