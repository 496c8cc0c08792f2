"""One capture shared out over the processes that torchrun started, on one machine or several with one folder between them.

Where a unit ends depends on how many tokens the documents before it have. So the work goes in rounds:
1. each process tokenizes its own run of the next documents and says how many tokens and rows each has;
2. now all know the same units; a process runs those that begin among its documents, for it has them tokenized, writes each
   and notes it in its journal;
3. all say what they wrote, and the first commits it with the manifest.
No unit is begun that one process would not come to, so the store is the one that one process writes. A process that dies ends
the run; a restart, with any number of processes, adopts every unit that a manifest or a journal names and runs the others.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from actscope.core.corpus import Corpus, Document
from actscope.core.errors import Interrupted, UsageError
from actscope.core.group import Group
from actscope.core.progress import stop_requested
from actscope.stores._parts.job import Job, write_alone
from actscope.stores._parts.ledger import Ledger
from actscope.stores._parts.pieces import Piece, Planned, full, prepared, rows_of
from actscope.stores._parts.running import threads_of
from actscope.stores._parts.writer import Journal, Writer

_FIRST, _MOST, _IMAGES = 16, 1 << 16, 256  # documents of one process in the first round, and in any; where they are images
_SHORT, _LONG = 5.0, 20.0  # seconds; rounds outside grow or shrink


def write(group: Group, job: Job, out: Path, *, kept_threads: bool) -> None:
    """Capture to disk together with the others of the group, or go on with what any number of them began. Every process calls
    this alike.

    Raises UsageError unless all were asked for the same; what one raises, all raise; Lost when one is gone.
    """
    if group.size == 1:
        return write_alone(job, out, kept_threads=kept_threads)
    asked = group.told({**job.settings, "out": str(out), "threads": None if kept_threads else job.settings["threads"]})
    if any(other != asked[0] for other in asked):
        raise UsageError(
            "The processes of this run were asked to capture different things; under torchrun every process calls capture with "
            "the same arguments. For captures that are independent start each without torchrun."
        )
    with contextlib.ExitStack() as held:
        writer = Writer(out, job.settings, kept_threads=kept_threads)
        group.first_does(lambda: held.enter_context(writer))
        said = group.told([writer.settings, writer.complete, writer.run, writer.ledger.told()] if group.rank == 0 else None)[0]
        settings, complete, run, ledger = said
        if not complete:
            first = writer if group.rank == 0 else None
            with Journal(out, run, group.rank, settings) as journal, threads_of(settings["threads"]):
                _Rounds(group, replace(job, settings=settings), first, journal, Ledger.heard(ledger)).go()
        group.first_does(writer.finish)


@dataclass(frozen=True)
class _Unit:
    """A unit of a round. rows: at most; the run of an expert may reach fewer. rank: whose it is."""

    number: int
    first: int
    next: int
    rows: int
    rank: int


class _Rounds:
    """writer: in the first process. All processes have equal ledgers and blocks, but that only the first keeps entries."""

    def __init__(self, group: Group, job: Job, writer: Writer | None, journal: Journal, ledger: Ledger):
        self.group, self.job, self.writer, self.journal = group, job, writer, journal
        self.ledger = ledger if writer is None else writer.ledger
        self.wanted: int | None = job.settings["tokens"]
        self.source = _Source(job.corpus)
        self.block = _FIRST
        first = next(job.corpus.documents(job.settings["start"]), None)
        self.most = _MOST if first is None or first.image is None else _IMAGES  # those of a round are held

    def go(self) -> None:
        self.ledger.adopt(self.wanted)
        ended = False
        while not ended and not self.ledger.reached(self.wanted):
            began = self.ledger.cursor
            units, ended = self._units(self.group.exchanged(self._counted))
            said = self.group.exchanged(lambda units=units: self._done(units))
            for one in said:
                self.ledger.ahead.update((number, entry) for number, entry in one["entries"])
            self._stop_if_asked(any(one["stop"] for one in said))
            self.ledger.adopt(self.wanted)
            if began == self.job.settings["start"] and self.ledger.number == 1:
                self.job.refuse_little(self.ledger.rows, ended)
            if self.ledger.number:
                self.job.tell(self.ledger.rows, self.ledger.cursor)
            self._resize(max(one["seconds"] for one in said) if units else 0.0)
        if not self.ledger.reached(self.wanted):
            self.job.check_some(self.ledger.rows, self.ledger.cursor)
        self.job.progress(self.ledger.rows, self.ledger.rows, "rows")

    def _counted(self) -> list[list[int]]:
        """(tokens, rows) of every document of this process's block. The first commits the round before, meanwhile."""
        if self.writer is not None and self.ledger.entries:
            self.writer.commit()
        self.own = self.ledger.cursor + self.group.rank * self.block
        self.held = self._prepared(self.own, self.own + self.block)
        return [[sum(map(len, pieces)), self._rows(pieces)] for _, pieces in self.held]

    def _units(self, counted: list[list[list[int]]]) -> tuple[list[_Unit], bool]:
        """The units that end in this round's documents, and whether all text is in them; not those behind the last wanted."""
        began, settings, ledger = self.ledger.cursor, self.job.settings, self.ledger
        documents = [one for block in counted for one in block]
        ended = any(len(block) < self.block for block in counted)
        units: list[_Unit] = []
        first, tokens, rows, expected = began, 0, 0, ledger.rows
        for following, (of_tokens, of_rows) in enumerate(documents, began + 1):
            if self.wanted is not None and expected >= self.wanted:
                return units, False
            tokens, rows = tokens + of_tokens, rows + of_rows
            if full(tokens, settings["unit"], settings["context"]) or (ended and following == began + len(documents)):
                number = ledger.number + len(units)
                units.append(_Unit(number, first, following, rows, (first - began) // self.block))
                expected += ledger.ahead[number]["rows"] if number in ledger.ahead else rows
                first, tokens, rows = following, 0, 0
        return units, ended

    def _done(self, units: list[_Unit]) -> dict[str, Any]:
        """Run and write this process's units that do not stand already."""
        started = time.monotonic()
        self.journal.begin()
        for unit in units:
            there = self.ledger.ahead.get(unit.number)
            if there is not None and there["documents"] == [unit.first, unit.next]:
                continue
            if unit.rank == self.group.rank and not stop_requested():
                self.journal.add(unit.number, *self.job.run(self._planned(unit)))
        entries = self.journal.flush()
        return {"entries": entries, "stop": stop_requested(), "seconds": time.monotonic() - started}

    def _planned(self, unit: _Unit) -> Planned:
        here = self.held[unit.first - self.own : unit.next - self.own]
        here = here + self._prepared(unit.first + len(here), unit.next)
        return Planned(unit.first, tuple(name for name, _ in here), tuple(piece for _, pieces in here for piece in pieces))

    def _prepared(self, first: int, following: int) -> list[tuple[str, list[Piece]]]:
        documents = self.source.documents(first, following - first)
        return list(prepared(self.job.subject, documents, self.job.settings["context"]))

    def _rows(self, pieces: list[Piece]) -> int:
        return sum(int(rows_of(piece, self.job.settings["special"]).sum()) for piece in pieces)

    def _stop_if_asked(self, asked: bool) -> None:
        if not asked:
            return
        self.ledger.adopt(self.wanted)
        if self.writer is not None:
            self.writer.commit()
        rows = self.ledger.rows + sum(entry["rows"] for entry in self.ledger.ahead.values())
        raise Interrupted(
            f"Stopped after {rows:,} rows, all saved in {self.journal.folder}; the same command goes on from there, with as "
            "many processes as you like."
        )

    def _resize(self, seconds: float) -> None:
        """The block of the next round. Rounds of a few seconds waste little where one process waits for another."""
        if seconds < _SHORT:
            self.block = min(self.block * 2, self.most)
        elif seconds > _LONG:
            self.block = max(self.block // 2, 1)


class _Source:
    """A corpus's documents by number, read on from where the last ones ended wherever that can be."""

    def __init__(self, corpus: Corpus):
        self.corpus = corpus
        self.at = 0
        self.stream: Iterator[Document] | None = None

    def documents(self, first: int, n: int) -> list[tuple[int, Document]]:
        """(number, document) of so many from number `first` on; fewer where the corpus ends."""
        if n < 1:
            return []
        if self.stream is None or first < self.at:
            self.stream, self.at = self.corpus.documents(first), first
        found = list(islice(self.stream, first - self.at, first - self.at + n))
        self.at = first + n
        return list(enumerate(found, first))
