"""The work of one capture in one process: its units one after another."""

import contextlib
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from actscope.core.corpus import Corpus
from actscope.core.errors import EmptyCorpus, Interrupted
from actscope.core.progress import Progress, quiet, stop_requested
from actscope.core.site import EXPERT_KINDS, Site
from actscope.core.subject import Subject
from actscope.stores._parts.immense import limits
from actscope.stores._parts.manifest import measured
from actscope.stores._parts.order import Part
from actscope.stores._parts.pieces import Planned, planned
from actscope.stores._parts.running import run_unit, tensors_of, threads_of
from actscope.stores._parts.writer import Writer

Unit = tuple[Part, dict[str, Tensor]]


@dataclass(frozen=True)
class Job:
    """What to capture. settings: those of the store. over: the lengths from which rows are set apart, once known."""

    subject: Subject
    corpus: Corpus
    sites: list[Site]
    settings: dict
    progress: Progress = quiet
    over: dict[str, dict[str, float]] = field(default_factory=dict)

    def units(self, cursor: int, rows: int) -> Generator[Unit, None, None]:
        """Every unit from document number `cursor` on, when `rows` rows stand before it."""
        wanted, context = self.settings["tokens"], self.settings["context"]
        if wanted is not None and rows >= wanted:
            return
        begun = rows
        with threads_of(self.settings["threads"]):
            for unit in planned(self.subject, self.corpus, cursor, context, self.settings["unit"]):
                part, tensors = self.run(unit)
                rows += part.rows
                if begun == 0 and rows == part.rows and self.is_little(rows):
                    self.refuse_little(rows, next(self.corpus.documents(unit.next), None) is None)
                self.tell(rows, unit.next)
                yield part, tensors
                if wanted is not None and rows >= wanted:
                    return
        self.check_some(rows, cursor)
        self.progress(rows, rows, "rows")

    def run(self, unit: Planned) -> Unit:
        """A unit's part and tensors."""
        rows, words = run_unit(self.subject, unit, self.sites, self.settings)
        tensors = tensors_of(unit, self.settings, rows, words, self._over(unit, rows))
        return measured(tensors, unit.first, unit.next), tensors

    def _over(self, unit: Planned, rows: dict[str, Tensor]) -> dict[str, float]:
        """The limits, from the first unit: this one, or run for it."""
        if "limits" not in self.over:
            settings = self.settings
            if unit.first != settings["start"]:
                first = next(planned(self.subject, self.corpus, settings["start"], settings["context"], settings["unit"]))
                rows, _ = run_unit(self.subject, first, self.sites, {**settings, "grads": False})
            self.over["limits"] = limits(rows)
        return {} if self.settings.get("sinks") else self.over["limits"]

    def tell(self, rows: int, documents: int) -> None:
        self.progress(rows, max(rows, self.settings["tokens"] or rows + 1), f"rows, {documents:,} documents")

    def is_little(self, rows: int) -> bool:
        """Whether so many rows are less than a context, or than was asked for."""
        return rows < min(self.settings["context"], self.settings["tokens"] or rows + 1)

    def refuse_little(self, rows: int, ended: bool) -> None:
        """The first unit holds less than a context only when the corpus ends with it."""
        if ended and self.is_little(rows):
            experts = [site for site in self.sites if site.kind in EXPERT_KINDS and site.part is not None]
            chose = f" that chose {' and '.join(map(str, experts))}" if experts else ""
            if not experts:
                self.check_some(rows, self.settings["start"])
            raise EmptyCorpus(
                f"{self.corpus.name} gives {rows} tokens{chose}; expected at least one context of {self.settings['context']}. "
                "Give more text, or a smaller context=."
            )

    def check_some(self, rows: int, cursor: int) -> None:
        if rows:
            return
        if next(self.corpus.documents(cursor), None) is None:
            raise EmptyCorpus(f"{self.corpus.name} has no document from number {cursor} on; expected text to read.")
        raise EmptyCorpus(
            f"{self.corpus.name} has documents from number {cursor} on and no token of text in them for {self.subject.name}: "
            "all are special or masked. Look at what subject.prepare gives for one of them (mask, roles); special=True "
            "(--special) gives special tokens rows too."
        )


def write_alone(job: Job, out: Path, *, kept_threads: bool) -> None:
    """Capture to disk in this process, or go on with what others began."""
    with Writer(out, job.settings, kept_threads=kept_threads) as writer:
        job, wanted = replace(job, settings=writer.settings), job.settings["tokens"]
        while not writer.complete:
            writer.flush()
            writer.ledger.adopt(wanted)
            if not _write_until_adopting(job, writer):
                break
        writer.finish()


def _write_until_adopting(job: Job, writer: Writer) -> bool:
    """Write the units that are missing before the next one that stands already; whether there is one."""
    number = writer.ledger.number
    with contextlib.closing(job.units(writer.ledger.cursor, writer.ledger.rows)) as units:
        for part, tensors in units:
            writer.add(part, tensors)
            number += 1
            if stop_requested():
                writer.flush()
                writer.commit()
                rows, folder = writer.ledger.rows, writer.folder
                raise Interrupted(f"Stopped after {rows:,} rows, all saved in {folder}; the same command goes on from there.")
            if number in writer.ledger.ahead:
                return True
    return False
