"""Several captures of one text as one store: the same tokens, read in several models.

Letters: n rows, b sequences.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from actscope.core import files
from actscope.core.batch import Batch
from actscope.core.errors import BadInput
from actscope.core.inputs import Inputs
from actscope.core.site import Port, Site
from actscope.core.store import Store

__all__ = ["side_by_side"]


def side_by_side(stores: Mapping[str, Store]) -> Store:
    """One store of several, by alias: {"base": ..., "chat": ...} has the ports "base:layers.1.resid_post" and so on. A
    crosscoder fitted to it compares the models.

    Raises BadInput for fewer than two, for stores of several subjects, and where their rows are not the same tokens.
    """
    return _SideBySide(stores)


class _SideBySide:
    """Rows, documents and shuffled orders are those of the first store."""

    def __init__(self, stores: Mapping[str, Store]):
        self.stores = dict(stores)
        if len(self.stores) < 2 or not all(self.stores) or any(set(store.subjects) != {""} for store in self.stores.values()):
            raise BadInput(f"Stores {list(self.stores)} given; expected two or more, each of one subject and with an alias.")
        self.first = next(iter(self.stores.values()))
        ids, where = self.first.text
        for alias, store in self.stores.items():
            own = store.text
            if own[0].shape != ids.shape or not torch.equal(own[0], ids) or not torch.equal(own[1], where):
                raise BadInput(
                    f"The store {alias!r} ({len(store):,} rows) does not hold the tokens of {next(iter(self.stores))!r} "
                    f"({len(self):,} rows); capture both from one corpus with the same settings, by models of one tokenizer, "
                    "and with sinks=True where one of them sets rows apart."
                )
        self.ports = {
            Port(port.site, alias): width for alias, store in self.stores.items() for port, width in store.ports.items()
        }
        self.subjects = {alias: store.subjects[""] for alias, store in self.stores.items()}
        self.documents = self.first.documents
        self.text = (ids, where)
        self._keys = _key(where)

    @property
    def content(self) -> str:
        """Hash of the aliases and of what each store holds."""
        return files.sha256("\n".join(f"{alias} {store.content}" for alias, store in self.stores.items()).encode())

    def __len__(self) -> int:
        return len(self.first)

    def batches(
        self, ports: Iterable[Port], size: int, *, seed: int | None = None, start: int = 0, grads: bool = False
    ) -> Iterator[Batch]:
        """As of the first store, with the same rows of the others beside them."""
        asked = self._known(ports)
        own = [Port(port.site) for port in asked if port.subject == next(iter(self.stores))]
        known = own or list(self.first.ports)[:1]  # where the rows stand is asked of the first store in any case
        for batch in self.first.batches(known, size, seed=seed, start=start, **_with(grads and bool(own))):
            yield self._beside(batch, asked, grads)

    def rows(self, index: Int[Tensor, " n"], ports: Iterable[Port], *, grads: bool = False) -> Batch:
        """The given rows, in the order given."""
        asked = self._known(ports)
        own = [Port(port.site) for port in asked if port.subject == next(iter(self.stores))]
        known = own or list(self.first.ports)[:1]
        return self._beside(self.first.rows(index, known, **_with(grads and bool(own))), asked, grads)

    def tokens(self, where: Int[Tensor, "n 2"], before: int, after: int) -> Int[Tensor, "n window"]:
        return self.first.tokens(where, before, after)

    def sequences(self, size: int, documents: Iterable[int] | None = None) -> Iterator[tuple[Inputs, Int[Tensor, "b 2"]]]:
        return self.first.sequences(size, documents)

    def _known(self, ports: Iterable[str | Site | Port]) -> list[Port]:
        """Raises BadInput for a port that is not there."""
        found = [Port.parse(port) for port in ports]
        for port in found:
            if port not in self.ports:
                raise BadInput(f"The store has no port {port}; it has {', '.join(map(str, self.ports))}.")
        return found

    def _beside(self, first: Batch, ports: list[Port], grads: bool) -> Batch:
        """The rows of a batch of the first store, at all ports."""
        index = torch.searchsorted(self._keys, _key(first.where))
        acts, slopes = {}, {}
        for alias, mine in groupby(sorted(ports, key=lambda port: port.subject), key=lambda port: port.subject):
            sites = [Port(port.site) for port in mine]
            part = first if self.stores[alias] is self.first else self.stores[alias].rows(index, sites, **_with(grads))
            acts |= {Port(port.site, alias): part.acts[port] for port in sites}
            slopes |= {} if part.grads is None else {Port(port.site, alias): part.grads[port] for port in sites}
        return Batch({port: acts[port] for port in ports}, first.where, slopes if grads else None, first.roles)


def _with(grads: bool) -> dict[str, Any]:
    """What asks a store that holds gradients for them."""
    return {"grads": True} if grads else {}


def _key(where: Int[Tensor, "n 2"]) -> Int[Tensor, " n"]:
    """A place as one number; in corpus order they rise."""
    return where[:, 0].long() * 2**32 + where[:, 1].long()
