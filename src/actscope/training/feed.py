"""Batches without end from a source, with a cursor that says exactly where the next one comes from."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from actscope.core.errors import EmptyCorpus, UsageError
from actscope.core.group import Rows
from actscope.core.site import Port
from actscope.training.plan import Plan


class Cursor(NamedTuple):
    """The next batch: number `batch` of pass `round`, whose order is drawn from the plan's seed + `round`."""

    round: int = 0
    batch: int = 0


class Feed:
    """One source seen as rounds of batches. A store is read at `ports`; any other source has
    `batches(size, *, seed, start)`, finite (then repeated with the next seed) or endless."""

    def __init__(self, source: Any, plan: Plan, ports: Iterable[Port] = (), *, grads: bool = False):
        """grads: with the gradients that stand beside the store's rows."""
        self.source = source
        self.extra = {"grads": True} if grads else {}
        self.seed = plan.seed
        self.ports = tuple(ports)
        self.is_store = bool(self.ports)
        if self.is_store and len(source) == 0:
            raise EmptyCorpus("The store holds no rows; capture some text into it first.")
        if not self.is_store and plan.rows is None:
            raise UsageError("Plan(rows=None) means one pass over a store; this source is none: say how many rows.")
        rows = len(source) if plan.rows is None else plan.rows
        self.size = min(plan.batch, len(source)) if self.is_store else plan.batch
        self.steps = max(1, rows // self.size)

    @property
    def identity(self) -> object:
        """What tells this source from another, for resuming: its content hash or settings, and its shape."""
        if not self.is_store:
            return getattr(self.source, "identity", type(self.source).__name__)
        ports = {str(port): self.source.ports[port] for port in self.ports}
        return {
            "ports": ports,
            "rows": len(self.source),
            "subjects": dict(self.source.subjects),
            "content": self.source.content,
            **({"mixing": mixing} if (mixing := getattr(self.source, "mixing", None)) is not None else {}),
        }

    def batches(self, cursor: Cursor, rows: Rows | None = None) -> Iterator[tuple[Any, Cursor]]:
        """(batch, the cursor after it) from `cursor` on, for ever. rows: who shares out the rows of each; None: nobody. Raises
        UsageError for batches that cannot be shared out."""
        place = cursor
        whole = max(1, len(self.source) // self.size) if self.is_store else None  # batches of a pass that are not short
        of_own = rows is not None and rows.size > 1 and getattr(self.source, "shares", False)
        while True:
            empty = place.batch == 0
            for batch in self._round(place, rows if of_own else None):
                empty = False
                place = Cursor(place.round, place.batch + 1)
                if whole is not None and place.batch > whole:
                    continue  # the short end of a pass; its rows come in other passes
                if rows is not None and rows.size > 1:
                    part = rows.share(_shareable(self.size if of_own else _rows_of(batch), rows))
                    batch = batch if of_own else _cut(batch, part)
                yield batch, place
            if empty:
                raise EmptyCorpus("The source gave no batch in a whole pass; expected at least one.")
            place = Cursor(place.round + 1, 0)

    def _round(self, place: Cursor, rows: Rows | None) -> Iterator[Any]:
        seed = self.seed + place.round
        extra = {} if rows is None else {"share": (rows.rank, rows.size)}
        if self.is_store:
            return iter(self.source.batches(self.ports, self.size, seed=seed, start=place.batch, **self.extra, **extra))
        return iter(self.source.batches(self.size, seed=seed, start=place.batch))


def _shareable(n: int, rows: Rows) -> int:
    if n < rows.size:
        raise UsageError(f"A batch of {n} rows over {rows.size} processes; expected at least a row for each.")
    return n


def _rows_of(batch: Any) -> int:
    if isinstance(batch, tuple):
        return _rows_of(batch[0])
    if hasattr(batch, "__getitem__") and hasattr(batch, "__len__"):
        return len(batch)
    raise UsageError(
        f"A batch that is a {type(batch).__name__} cannot be shared out; expected a Batch, tensors or tuples of them."
    )


def _cut(batch: Any, part: slice) -> Any:
    if not isinstance(batch, tuple):
        return None if batch is None else batch[part]
    kind: Any = type(batch)
    cut = [_cut(one, part) for one in batch]
    return kind(*cut) if hasattr(batch, "_fields") else kind(cut)
