"""A store that keeps nothing: rows are recomputed when they are asked for.

1. Once, the text is tokenized, which says how many rows each unit has; nothing is run.
2. A unit is run when its rows are asked for, exactly as a capture runs it, and is held while it is among the last ones that
   fit the buffer.
3. A shuffled pass mixes whole units, as many as fit the buffer, so that each is run once a pass. Where all fit, each is run
   once for good, and orders are those of the same capture in memory or on disk.
What only concerns the text (`text`, `tokens`, `documents`, `sequences`) is answered by tokenizing.
"""

import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from actscope.core import files
from actscope.core.batch import Batch
from actscope.core.corpus import Corpus
from actscope.core.errors import BadInput
from actscope.core.site import Port, Site
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.stores._parts.asked import asked
from actscope.stores._parts.immense import limits
from actscope.stores._parts.job import Job
from actscope.stores._parts.manifest import described
from actscope.stores._parts.order import BUFFER, Part, order
from actscope.stores._parts.pieces import Planned, planned, rows_of
from actscope.stores._parts.reader import Reader
from actscope.stores._parts.running import run_unit, sequences, threads_of, words_of
from actscope.stores.capture import UNIT

__all__ = ["live"]

_TOKENIZED = 256  # units whose tokens are held


def live(
    subject: Subject,
    corpus: Corpus,
    sites: Iterable[str | Site] | str | Site,
    *,
    tokens: int | None = None,
    context: int | None = None,
    packed: bool = False,
    special: bool = False,
    grads: bool = False,
    sinks: bool = False,
    start: int = 0,
    threads: int | None = None,
    mixing: int | None = None,
) -> Store:
    """The rows that `capture` with these settings gives, run when they are asked for and never written.

    mixing: the bytes of rows that are held, and that a shuffled pass mixes at a time; 1 GiB when left out. Rows are counted by
    tokenizing, so none can be set apart: where the first unit has immense rows the call is refused unless `sinks` keeps them,
    and later ones stay among the others.

    Raises what `capture` does; BadInput for a site that not every token reaches, when it is read, and for immense rows.
    """
    names, settings = asked(
        subject, corpus, sites, unit=UNIT, tokens=tokens, context=context, packed=packed, special=special, grads=grads,
        dtype=None, sinks=sinks, start=start, threads=threads,
    )  # fmt: skip
    if mixing is not None and mixing < 1:
        raise BadInput(f"mixing={mixing}: expected how many bytes of rows are held at a time, such as {BUFFER}.")
    return _LiveStore(Job(subject, corpus, names, settings), mixing)


class _LiveStore(Reader):
    def __init__(self, job: Job, mixing: int | None):
        self.job, self.mixing = job, mixing
        self.settings = job.settings
        self.ports, self.subjects = described(self.settings)
        self._words: OrderedDict[int, dict[str, Tensor]] = OrderedDict()
        self._rows: OrderedDict[int, dict[str, Tensor]] = OrderedDict()
        self.parts = tuple(self._counted())
        if not self.parts or not len(self):
            job.check_some(0, self.settings["start"])
        first = self._run(0)
        over = limits(first)
        if not self.settings.get("sinks"):
            self._refuse_immense(first, over)

    @property
    def content(self) -> str:
        """Hash of the settings, which name the subject and the text: the rows follow from them. Never that of a capture."""
        return files.sha256(json.dumps({"live": self.settings}, sort_keys=True).encode())

    def _counted(self) -> Iterator[Part]:
        settings, rows = self.settings, 0
        width = sum(self.ports.values()) * 4 * (1 + bool(settings.get("grads")))
        begun = planned(self.job.subject, self.job.corpus, settings["start"], settings["context"], settings["unit"])
        for unit in begun:
            here = sum(int(rows_of(piece, settings["special"]).sum()) for piece in unit.pieces)
            yield Part(here, here * width, unit.first, unit.next)
            rows += here
            if settings["tokens"] is not None and rows >= settings["tokens"]:
                return

    def _refuse_immense(self, rows: Mapping[str, Tensor], over: Mapping[str, float]) -> None:
        for port, limit in over.items():
            length = torch.linalg.vector_norm(rows[f"acts.{port}"], dim=1, dtype=torch.float32)
            if n := int((length > limit).sum()):
                raise BadInput(
                    f"{n} of the first {len(length):,} rows at {port} are immense, up to {float(length.max()):.3g} in length; "
                    "a live store cannot set rows apart, for it counts them by tokenizing. Capture to disk, or give sinks=True "
                    "to keep them among the others."
                )

    def _planned(self, part: int) -> Planned:
        settings = self.settings
        return next(planned(self.job.subject, self.job.corpus, self.parts[part].first, settings["context"], settings["unit"]))

    def _said(self, part: int) -> dict[str, Tensor]:
        """What is known of a unit by tokenizing."""
        if part not in self._words:
            unit = self._planned(part)
            self._words[part] = {**words_of(unit, self.settings["special"]), **sequences(unit)}
            while len(self._words) > _TOKENIZED:
                self._words.popitem(last=False)
        return self._words[part]

    def _run(self, part: int) -> dict[str, Tensor]:
        """A unit's rows, run now or among those held."""
        if part in self._rows:
            self._rows.move_to_end(part)
            return self._rows[part]
        with threads_of(self.settings["threads"]):
            rows, words = run_unit(self.job.subject, self._planned(part), self.job.sites, self.settings)
        about = self.parts[part]
        if len(words["where"]) != about.rows:
            raise BadInput(
                f"{about.rows - len(words['where']):,} of {about.rows:,} tokens do not reach every one of its sites. "
                "A live store counts rows by tokenizing and cannot leave them out. Capture to memory or disk."
            )
        self._rows[part] = rows
        while len(self._rows) > 1 and sum(self.parts[one].bytes for one in self._rows) > (self.mixing or BUFFER):
            self._rows.popitem(last=False)
        return rows

    def _tensors(self, part: int) -> Mapping[str, Tensor]:
        return _OnDemand(self, part)

    def _batch(self, index: Tensor, ports: list[Port], grads: bool) -> Batch:
        """Part by part, so that each is run once for all ports."""
        touched = [at for _, at in self._by_part(torch.searchsorted(self._starts[1:], index, right=True))]
        if len(touched) < 2:
            return Reader._batch(self, index, ports, grads)
        found = [Reader._batch(self, index[at], ports, grads) for at in touched]
        back = torch.cat(touched).argsort()

        def joined(parts: list[Tensor]) -> Tensor:
            return torch.cat(parts)[back]

        acts = {port: joined([one.acts[port] for one in found]) for port in ports}
        beside = {port: joined([one.grads[port] for one in found if one.grads]) for port in ports} if grads else None
        roles = [one.roles for one in found if one.roles is not None]
        return Batch(acts, joined([one.where for one in found]), beside, joined(roles) if roles else None)

    def _whole(self, name: str) -> Tensor | None:
        return None

    def _order(self, seed: int | None, skip: int) -> Iterator[Tensor]:
        return order(self.parts, seed, skip, self.mixing or BUFFER, whole=True)


class _OnDemand(Mapping[str, Tensor]):
    """The tensors of a unit: what tokenizing says of it, and, when they are asked for, its rows."""

    def __init__(self, store: _LiveStore, part: int):
        self.store, self.part = store, part

    def __getitem__(self, name: str) -> Tensor:
        rows = name.startswith(("acts.", "grads."))
        return (self.store._run(self.part) if rows else self.store._said(self.part))[name]

    def __iter__(self) -> Iterator[str]:
        yield from self.store._said(self.part)
        for kind in ("acts", "grads") if self.store.settings.get("grads") else ("acts",):
            yield from (f"{kind}.{port}" for port in self.store.ports)

    def __len__(self) -> int:
        return sum(1 for _ in self)
