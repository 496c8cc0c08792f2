"""One pass of a dictionary over a store: what the cheap measures of a dictionary count.

Letters: n rows, m latents, p ports written, d width of a port.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from actscope.core.batch import Batch
from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput, Interrupted, NotFinite, UnknownSite
from actscope.core.progress import stop_requested
from actscope.core.site import Port
from actscope.core.store import Store
from actscope.scores._parts.totals import document_sums

_ROWS = 4096


@dataclass(frozen=True)
class Census:
    """Sums by document, in float64, and which latents were ever active."""

    rows: Float[Tensor, " documents"]
    active: Float[Tensor, " documents"]  # active latents, over all rows
    error: Float[Tensor, "documents p"]  # squared error of each port
    spread: Float[Tensor, "documents p"]  # squared distance of each port from its mean over all rows
    fired: Bool[Tensor, " m"]
    ports: tuple[Port, ...]  # written

    @staticmethod
    def of(dictionary: Dictionary, store: Store, documents: Iterable[int] | None = None, *, grads: bool = False) -> "Census":
        """Encode and decode the store's rows, or those of `documents`; with the gradients beside them, where asked.

        Raises UnknownSite for a port the store lacks, BadInput for no rows, NotFinite for NaN or infinity.
        """
        ports = tuple(dictionary.writes)
        documents = None if documents is None else list(documents)
        means = port_means(store, ports, documents)
        fired = torch.zeros(dictionary.n_latents, dtype=torch.bool)
        where, counts = [], []
        with torch.no_grad():
            for batch in row_batches(store, [*dictionary.reads, *ports], documents, grads=grads):
                codes = dictionary.encode({port: batch.acts[port] for port in dictionary.reads}, **_beside(batch))
                rebuilt = dictionary.decode(codes, batch.acts)
                error = [(batch.acts[port].double() - rebuilt[port].double()).pow(2).sum(1) for port in ports]
                spread = [(batch.acts[port].double() - means[port]).pow(2).sum(1) for port in ports]
                live = codes.value != 0
                fired[codes.index[live]] = True
                active = torch.bincount(codes.row[live], minlength=len(batch)).double()
                counts.append(torch.stack([torch.ones_like(active), active, *error, *spread], dim=1))
                where.append(batch.where[:, 0])
        sums = document_sums(torch.cat(counts), torch.cat(where))
        if not bool(torch.isfinite(sums).all()):
            raise NotFinite(
                f"The reconstruction at {', '.join(map(str, ports))} is not finite on this store; expected finite weights "
                "and activations. Fit the dictionary again, or look at what was captured."
            )
        p = len(ports)
        return Census(sums[:, 0], sums[:, 1], sums[:, 2 : 2 + p], sums[:, 2 + p :], fired, ports)


def _beside(batch: Batch) -> dict[str, Mapping[Port, Tensor]]:
    return {} if batch.grads is None else {"grads": batch.grads}


def row_batches(
    store: Store, ports: Iterable[Port], documents: Iterable[int] | None = None, size: int = _ROWS, *, grads: bool = False
) -> Iterator[Batch]:
    """The store's rows in corpus order, or those of `documents`. Raises UnknownSite, BadInput for no rows or where gradients
    are asked for and were not captured, Interrupted."""
    ports = list(dict.fromkeys(ports))
    for port in ports:
        if port not in store.ports:
            raise UnknownSite(
                f"The store has no {port}; it has {', '.join(map(str, store.ports))}. Capture again with that site among "
                "--sites, or score a dictionary of one of these."
            )
    if documents is None:
        index, total = None, len(store)
    else:
        index = rows_of(store.text[1], documents)
        total = len(index)
    if not total:
        raise BadInput("No rows to score; expected a store with at least one row of the documents asked for.")
    given = {"grads": True} if grads else {}
    source = (
        store.batches(ports, size, **given)
        if index is None
        else (store.rows(index[start : start + size], ports, **given) for start in range(0, total, size))
    )
    for batch in source:
        if stop_requested():
            raise Interrupted("Stopped while scoring; nothing was to be saved. Run the same command again.")
        yield batch


def port_means(store: Store, ports: Iterable[Port], documents: Iterable[int] | None = None) -> dict[Port, Tensor]:
    """Port -> Float[d], float64: the mean over the store's rows, or over those of `documents`."""
    ports = list(ports)
    total = {port: torch.zeros(store.ports[port], dtype=torch.float64) for port in ports if port in store.ports}
    n = 0
    for batch in row_batches(store, ports, documents):
        n += len(batch)
        for port in ports:
            total[port] += batch.acts[port].double().sum(0)
    return {port: value / n for port, value in total.items()}


def rows_of(where: Int[Tensor, "n 2"], documents: Iterable[int]) -> Int[Tensor, " rows"]:
    """The rows that stand in one of `documents`."""
    return torch.isin(where[:, 0], torch.tensor(sorted(documents), dtype=where.dtype)).nonzero()[:, 0]
