"""What stores in memory and on disk share: rows in any order, the text around them, the sequences that were run.

A store is a list of parts, one per captured unit; a part's tensors are those of `running.run_unit`.
Letters: n rows, b sequences, d width of a port.
"""

import abc
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import islice

import torch
from jaxtyping import Int
from torch import Tensor

from actscope.core.batch import Batch
from actscope.core.errors import BadInput, nearest
from actscope.core.inputs import SPECIAL, Inputs
from actscope.core.site import Port, Site
from actscope.stores._parts import formats
from actscope.stores._parts.immense import Alarm, alarm
from actscope.stores._parts.order import BUFFER, Part, generator, order

_AHEAD = 1 << 16  # rows gathered at once from a store that stays on disk


class Reader(abc.ABC):
    """The Store protocol over parts. `ports`, `subjects`, `settings`, `content` and `parts` are set by the final classes.
    mixing: the bytes of rows that a shuffled pass mixes at a time (see order), BUFFER unless asked for."""

    ports: dict[Port, int]
    subjects: dict[str, str]
    settings: dict
    parts: tuple[Part, ...]
    mixing: int | None = None
    shares = True

    @abc.abstractmethod
    def _tensors(self, part: int) -> Mapping[str, Tensor]:
        """The tensors of a part, verified."""

    @abc.abstractmethod
    def _whole(self, name: str) -> Tensor | None:
        """One named tensor over all rows where it is kept in memory, else None."""

    def __len__(self) -> int:
        return int(self._starts[-1])

    @cached_property
    def _starts(self) -> Int[Tensor, " parts"]:
        return torch.tensor([0, *(part.rows for part in self.parts)]).cumsum(0)

    @property
    def documents(self) -> dict[int, str]:
        """Number -> id of every document captured."""
        return self._documents

    @cached_property
    def _documents(self) -> dict[int, str]:
        found: dict[int, str] = {}
        for part in range(len(self.parts)):
            first, names = json.loads(self._tensors(part)["names"].numpy().tobytes())
            found.update(enumerate(names, first))
        return found

    def batches(
        self,
        ports: Iterable[str | Site | Port],
        size: int,
        *,
        seed: int | None = None,
        start: int = 0,
        grads: bool = False,
        share: tuple[int, int] = (0, 1),
    ) -> Iterator[Batch]:
        """One pass in batches of `size` (the last may be short), from batch number `start` on, in corpus order or, with
        a seed, in a permutation that is a pure function of (store, seed). grads: with the gradients that stand beside the
        rows. share: (number, of) the readers that share out each batch; only the rows of this one are read. Raises BadInput
        for a port it has not, and for gradients it has not."""
        if size < 1 or start < 0:
            raise BadInput(f"size={size}, start={start}: expected batches of at least 1 row, from batch number 0 on.")
        order = _rebatched(self._order(seed, start * size), size)
        if share[1] > 1:
            order = (index[share[0] * len(index) // share[1] : (share[0] + 1) * len(index) // share[1]] for index in order)
        return self._pass(self._known(ports), order, size, self._with_grads(grads))

    def _pass(self, ports: list[Port], order: Iterator[Tensor], size: int, grads: bool) -> Iterator[Batch]:
        """The rows of each batch of `order`, of about `size`."""
        ahead = 1 if all(self._whole(f"acts.{port}") is not None for port in ports) else max(1, _AHEAD // size)
        while parts := list(islice(order, ahead)):
            block, at = self._batch(torch.cat(parts), ports, grads), 0
            for part in parts:
                yield block if ahead == 1 else block[at : at + len(part)]
                at += len(part)

    def rows(self, index: Int[Tensor, " n"], ports: Iterable[str | Site | Port], *, grads: bool = False) -> Batch:
        """The given rows, in the order given. Raises BadInput for rows, ports or gradients the store has not."""
        index = index.long().cpu()
        if len(index) and (int(index.min()) < 0 or int(index.max()) >= len(self)):
            raise BadInput(
                f"Rows {int(index.min())} to {int(index.max())} were asked for; the store has rows 0 to {len(self) - 1}."
            )
        return self._batch(index, self._known(ports), self._with_grads(grads))

    def tokens(self, where: Int[Tensor, "n 2"], before: int, after: int) -> Int[Tensor, "n window"]:
        """Token ids around each (document, position); -1 beyond the document's ends."""
        window = torch.full((len(where), before + after + 1), -1)
        offsets = torch.arange(-before, after + 1)
        for part, at in self._by_part(torch.searchsorted(self._document_ends, where[:, 0].contiguous(), right=True)):
            if part >= len(self.parts) or int(where[at, 0].min()) < self.parts[part].first:
                raise BadInput(f"Document {int(where[at, 0].max())} is not in the store, which holds {self._span}.")
            ids, starts = self._documents_of(part)
            document = where[at, 0] - self.parts[part].first
            place = where[at, 1, None] + offsets
            inside = (place >= 0) & (place < (starts[document + 1] - starts[document])[:, None])
            found = ids[(place + starts[document][:, None]).clamp(0, max(len(ids) - 1, 0))] if len(ids) else place
            window[at] = torch.where(inside, found, -1)
        return window

    def sequences(self, size: int, documents: Iterable[int] | None = None) -> Iterator[tuple[Inputs, Int[Tensor, "b 2"]]]:
        """The sequences as they were run, `size` at a time in corpus order, with the (document, position of its first
        token) of each; only those of `documents` when given. Pieces packed into one row come back apart."""
        wanted = None if documents is None else frozenset(documents)
        found = self._pieces(wanted)
        while group := list(islice(found, size)):
            width = max(len(ids) for _, ids, _ in group)
            ids = torch.zeros(len(group), width, dtype=torch.long)
            roles, mask = torch.full_like(ids, SPECIAL), torch.zeros_like(ids, dtype=torch.bool)
            for row, (_, words, role) in enumerate(group):
                ids[row, : len(words)], roles[row, : len(words)], mask[row, : len(words)] = words, role, True
            yield Inputs(ids=ids, mask=mask, roles=roles), torch.stack([where for where, _, _ in group])

    @property
    def text(self) -> tuple[Int[Tensor, " n"], Int[Tensor, "n 2"]]:
        """(token id, where) of every row."""
        return self._text

    @cached_property
    def _text(self) -> tuple[Tensor, Tensor]:
        every = [self._tensors(part) for part in range(len(self.parts))]
        return torch.cat([one["token"] for one in every]).long(), torch.cat([one["where"] for one in every])

    def _pieces(self, wanted: frozenset[int] | None) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """((document, first position), ids, roles) of every sequence."""
        for part, about in enumerate(self.parts):
            if wanted is not None and wanted.isdisjoint(range(about.first, about.next)):
                continue
            tensors = self._tensors(part)
            pieces = tensors["pieces"]
            lengths = pieces[:, 2].tolist()
            every = zip(
                pieces[:, :2], tensors["ids"].long().split(lengths), tensors["roles"].long().split(lengths), strict=True
            )
            for where, ids, roles in every:
                if wanted is None or int(where[0]) in wanted:
                    yield where, ids, roles

    def _order(self, seed: int | None, skip: int) -> Iterator[Tensor]:
        """Row numbers of one pass, without its first `skip`, in long runs."""
        return order(self.parts, seed, skip, self.mixing or BUFFER)

    def _batch(self, index: Tensor, ports: list[Port], grads: bool) -> Batch:
        acts = {port: self._acts(port, index) for port in ports}
        beside = {port: self._gather(f"grads.{port}", index) for port in ports} if grads else None
        roles = self._gather("role", index).long() if self.settings.get("roles") else None
        return Batch(acts, self._gather("where", index), beside, roles)

    def _acts(self, port: Port, index: Tensor) -> Tensor:
        """Rows as they are kept where no format was asked for, else as float32."""
        x, dtype = self._gather(f"acts.{port}", index), self.settings.get("dtype")
        if dtype is None:
            return x
        return formats.back(x, self._gather(f"scale.{port}", index) if dtype == "int8" else None)

    def apart(self, ports: Iterable[str | Site | Port]) -> Batch:
        """The rows set apart at capture because they are immense among the others (see immense), in corpus order."""
        known, held = self._known(ports), [n for n, part in enumerate(self.parts) if part.apart]

        def joined(name: str, like: Tensor) -> Tensor:
            return torch.cat([self._tensors(part)[f"apart.{name}"] for part in held] or [like])

        none = self._batch(torch.zeros(0, dtype=torch.long), known, grads=False)
        roles = None if none.roles is None else joined("role", none.roles).long()
        return Batch(
            {port: joined(f"acts.{port}", none.acts[port]) for port in known}, joined("where", none.where), None, roles
        )

    @property
    def alarms(self) -> list[Alarm]:
        """What was found at capture, a line a site; none where no row is set apart. Shares of variance are taken from up to
        65,536 of the other rows."""
        held = [n for n, part in enumerate(self.parts) if part.apart]
        if not held:
            return []
        index = torch.randperm(len(self), generator=generator(0, 0))[:_AHEAD].sort().values
        found = []
        for port in self.ports:
            apart, name = self.apart([port]), f"apart.limit.{port}"
            limits = [float(self._tensors(part)[name]) for part in held if name in self._tensors(part)]
            if limits:
                acts = self.rows(index, [port]).acts[port]
                found.append(alarm(str(port), apart.acts[port], apart.where, limits[0], acts, len(self)))
        return [one for one in found if one is not None]

    def _with_grads(self, wanted: bool) -> bool:
        if wanted and not self.settings.get("grads"):
            raise BadInput("This store holds no gradients; capture again with grads=True (--grads).")
        return wanted

    def _gather(self, name: str, index: Tensor) -> Tensor:
        whole = self._whole(name)
        if whole is not None:
            return whole.index_select(0, index)
        out: Tensor | None = None
        for part, at in self._by_part(torch.searchsorted(self._starts[1:], index, right=True)):
            rows = self._tensors(part)[name].index_select(0, index[at] - self._starts[part])
            if out is None:
                out = rows.new_empty(len(index), *rows.shape[1:])
            out[at] = rows
        return self._tensors(0)[name][:0] if out is None else out

    def _by_part(self, part: Tensor) -> Iterator[tuple[int, Tensor]]:
        """(part, places in the request) of every part that a request touches."""
        order = part.argsort(stable=True)
        touched, counts = torch.unique_consecutive(part[order], return_counts=True)
        yield from zip(touched.tolist(), order.split(counts.tolist()), strict=True)

    def _documents_of(self, part: int) -> tuple[Tensor, Tensor]:
        """(ids of its documents end to end, where each begins and, last, where they end)."""
        if part not in self._texts:
            tensors = self._tensors(part)
            about, pieces, own = self.parts[part], tensors["pieces"], tensors["own"]
            document = torch.repeat_interleave(pieces[:, 0] - about.first, pieces[:, 2])[own]
            counts = torch.bincount(document, minlength=about.next - about.first)
            self._texts[part] = tensors["ids"][own].long(), torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return self._texts[part]

    @cached_property
    def _texts(self) -> dict[int, tuple[Tensor, Tensor]]:
        return {}

    @cached_property
    def _document_ends(self) -> Tensor:
        return torch.tensor([part.next for part in self.parts])

    @property
    def _span(self) -> str:
        return f"documents {self.parts[0].first} to {self.parts[-1].next - 1}" if self.parts else "none"

    def _known(self, ports: Iterable[str | Site | Port]) -> list[Port]:
        listed = [Port.parse(port) for port in ([ports] if isinstance(ports, str | Site | Port) else ports)]
        for port in listed:
            if port not in self.ports:
                known = [str(one) for one in self.ports]
                raise BadInput(
                    f"The store holds no {port}{nearest(str(port), known)} It holds {', '.join(known)}; capture {port} too."
                )
        return listed


def _rebatched(runs: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """The same numbers in tensors of `size`, the last perhaps shorter."""
    left: list[Tensor] = []
    for run in runs:
        left.append(run)
        if sum(map(len, left)) < size:
            continue
        joined = torch.cat(left)
        full = len(joined) // size * size
        yield from joined[:full].split(size)
        left = [joined[full:]] if full < len(joined) else []
    if left and sum(map(len, left)):
        yield torch.cat(left)
