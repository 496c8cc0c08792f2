"""Reading a corpus through a subject into a store.

A unit is a run of whole documents with its batches, padding and thread count fixed, so its bytes do not depend on who
runs it or on what was run before. On disk one unit is one shard, and the manifest that names it is its commit: after
a kill at any moment the same call goes on behind the last committed unit and ends in the same content hash.
"""

import contextlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from actscope.core.corpus import Corpus
from actscope.core.errors import BadInput, EmptyCorpus, Interrupted
from actscope.core.progress import Progress, quiet, stop_requested
from actscope.core.site import Site, resolve
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.stores._parts.manifest import measured
from actscope.stores._parts.pieces import planned
from actscope.stores._parts.reader import Part
from actscope.stores._parts.running import probe, run_unit, threads_of
from actscope.stores._parts.writer import Writer
from actscope.stores.disk import DiskStore
from actscope.stores.memory import MemoryStore

__all__ = ["capture"]

UNIT = 8192  # tokens after which a unit ends


def capture(
    subject: Subject,
    corpus: Corpus,
    sites: Iterable[str | Site] | str | Site,
    *,
    tokens: int | None = None,
    out: Path | str | None = None,
    context: int | None = None,
    packed: bool = False,
    special: bool = False,
    grads: bool = False,
    start: int = 0,
    threads: int | None = None,
    progress: Progress = quiet,
) -> Store:
    """Read what stands at `sites` for every token of a corpus, into a store on disk (`out`) or in memory.

    A row is one text token, in corpus order; with `special` special tokens have rows too, and batches say which those are
    (`roles`). Documents longer than `context` (the subject's own when left out) are cut, each piece with its own special
    tokens; `packed` runs several short pieces in one row, and attention never crosses between them. Capture stops with the
    first unit that reaches `tokens` rows. `grads` keeps beside every row the gradient of the model's next-token loss there
    (nats, summed over the tokens of the sequence that text follows), at one backward pass a run and twice the room. `start`
    skips that many documents. The same call after an interruption goes on where it stopped; a finished one returns its store.
    threads: of torch while it runs, those it has when left out, and those it began with on resume.

    Raises UnknownSite; EmptyCorpus for fewer rows than one context; NotFinite naming document and site; BadInput when
    `out` holds a capture with other settings or is being written; WrongSubject; DiskFull; Interrupted.
    """
    names = resolve(sites, subject.sites, subject.missing)
    context = _context(subject, context)
    if not names or (tokens is not None and tokens < 1) or start < 0 or (threads is not None and threads < 1):
        raise BadInput(
            f"sites={names}, tokens={tokens}, start={start}, threads={threads}: expected a site, and numbers from 1."
        )
    settings: dict[str, object] = {
        "ports": [[str(port), width] for port, (width, _) in probe(subject, names).items()],
        "subjects": {"": subject.fingerprint},
        "corpus": corpus.fingerprint,
        "tokens": tokens,
        "context": context,
        "packed": packed,
        "special": special,
        "start": start,
        "unit": UNIT,
        "threads": threads or torch.get_num_threads(),
        **({"grads": True} if grads else {}),
        **({"roles": True} if special else {}),
    }
    if out is None:
        job = _Job(subject, corpus, names, settings, progress)
        with contextlib.closing(job.units(start, 0)) as units:
            return MemoryStore(settings, list(_until_stopped(units)))
    with Writer(Path(out), settings, kept_threads=threads is None) as writer:
        if not writer.complete:
            job = _Job(subject, corpus, names, writer.settings, progress)
            with contextlib.closing(job.units(writer.cursor, writer.rows)) as units:
                _write(units, writer, out)
            writer.finish()
    return DiskStore(out)


def _until_stopped(units: Iterable[tuple[Part, dict[str, Tensor]]]) -> Iterator[tuple[Part, dict[str, Tensor]]]:
    for unit in units:
        if stop_requested():
            raise Interrupted("Stopped. The activations were kept in memory only and are gone; give out= to keep them on disk.")
        yield unit


def _write(units: Iterable[tuple[Part, dict[str, Tensor]]], writer: Writer, out: Path | str) -> None:
    for part, tensors in units:
        writer.add(part, tensors)
        if stop_requested():
            writer.flush()
            raise Interrupted(f"Stopped after {writer.rows:,} rows, all saved in {out}; the same command goes on from there.")


@dataclass(frozen=True)
class _Job:
    """One call's work."""

    subject: Subject
    corpus: Corpus
    sites: list[Site]
    settings: dict
    progress: Progress

    def units(self, cursor: int, rows: int) -> Generator[tuple[Part, dict[str, Tensor]], None, None]:
        """Every unit from document number `cursor` on, when `rows` rows stand before it."""
        wanted, context = self.settings["tokens"], self.settings["context"]
        if wanted is not None and rows >= wanted:
            return
        begun = rows
        with threads_of(self.settings["threads"]):
            for unit in planned(self.subject, self.corpus, cursor, context, self.settings["unit"]):
                tensors = run_unit(self.subject, unit, self.sites, self.settings)
                part = measured(tensors, unit.first, unit.next)
                rows += part.rows
                if begun == 0 and rows == part.rows:
                    self._refuse_little(rows, unit.next)
                self.progress(rows, max(rows, wanted or rows + 1), f"rows, {unit.next:,} documents")
                yield part, tensors
                if wanted is not None and rows >= wanted:
                    return
        if rows == 0:
            raise EmptyCorpus(f"{self.corpus.name} has no document from number {cursor} on; expected text to read.")
        self.progress(rows, rows, "rows")

    def _refuse_little(self, rows: int, following: int) -> None:
        """The first unit holds less than a context only when the corpus ends with it."""
        least = min(self.settings["context"], self.settings["tokens"] or rows + 1)
        if rows < least and next(self.corpus.documents(following), None) is None:
            raise EmptyCorpus(
                f"{self.corpus.name} gives {rows} tokens; expected at least one context of {self.settings['context']}. "
                "Give more text, or a smaller context=."
            )


def _context(subject: Subject, context: int | None) -> int:
    if context is not None and not 1 < context <= subject.context:
        raise BadInput(f"context={context} was given; {subject.name} takes 2 to {subject.context} tokens.")
    return context or subject.context
