"""What a capture would hold and cost, without writing anything."""

import resource
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from actscope.core import files
from actscope.core.corpus import Corpus
from actscope.core.site import Site
from actscope.core.subject import Subject
from actscope.stores._parts import formats
from actscope.stores._parts.asked import asked
from actscope.stores._parts.manifest import measured, named
from actscope.stores._parts.pieces import Planned, layout, planned, rows_of, sample
from actscope.stores._parts.running import probe, run_unit, sequences, tensors_of, threads_of
from actscope.stores._parts.writer import Behind
from actscope.stores.capture import UNIT

__all__ = ["predict"]

_MEASURED = 6  # units run for the clock
_BEHIND = 4  # units in memory at most beside the one that runs: waiting, being written, and as the bytes of a file


@dataclass(frozen=True)
class Prediction:
    """rows, documents, units, bytes on disk to within a hundredth. seconds and memory (bytes, the most the process holds, what
    it holds already included) of one process on this machine as busy as it is now; None unless measured."""

    rows: int
    documents: int
    units: int
    bytes: int
    seconds: float | None = None
    memory: int | None = None


def predict(
    subject: Subject,
    corpus: Corpus,
    sites: Iterable[str | Site] | str | Site,
    *,
    tokens: int | None = None,
    context: int | None = None,
    packed: bool = False,
    special: bool = False,
    grads: bool = False,
    dtype: str | None = None,
    start: int = 0,
    threads: int | None = None,
    measure: bool = False,
) -> Prediction:
    """Tokenize what `capture` with these settings would read, and count; sites that not every token reaches count as if all
    did, and rows that would be set apart as rows. measure: also run the first units, nothing written, and say what time and
    memory a capture to disk takes.

    Raises what `capture` does when asked for what cannot be.
    """
    began = time.perf_counter()  # a corpus is looked over before its first document is read
    names, settings = asked(
        subject, corpus, sites, unit=UNIT, tokens=tokens, context=context, packed=packed, special=special, grads=grads,
        dtype=dtype, sinks=True, start=start, threads=threads,
    )  # fmt: skip
    found = probe(subject, names, sample(subject, corpus)).values()
    acts = sum(formats.bytes_of(width, dtype, own) for width, own in found)
    beside = sum(width * own.itemsize for width, own in found) if grads else 0
    per_row = acts + beside + 20 + special  # and its place, token and role
    rows = documents = units = size = 0
    context = int(str(settings["context"]))
    with _Clock(subject, names, settings) as clock:
        for unit in planned(subject, corpus, start, context, UNIT):
            rows += (here := sum(int(rows_of(piece, special).sum()) for piece in unit.pieces))
            size += here * per_row + sum(x.numel() * x.element_size() for x in sequences(unit).values()) + 1024
            documents, units = documents + len(unit.names), units + 1
            if measure:
                clock.see(unit)
            if tokens is not None and rows >= tokens:
                break
        if not measure:
            return Prediction(rows, documents, units, size)
        running = clock.seconds()
    rest = time.perf_counter() - began - clock.spent
    return Prediction(rows, documents, units, size, running + rest, _peak() + _BEHIND * size // max(units, 1))


class _Clock:
    """Runs the first units as a capture does, their bytes made beside the runs, and knows from them how long all take that it
    is shown. Use as a context manager."""

    def __init__(self, subject: Subject, names: list[Site], settings: dict[str, object]):
        self.subject, self.names, self.settings = subject, names, settings
        self.spent = 0.0  # by itself
        self.seen = 0  # units run
        self.tokens = 0  # of all units, padding included
        self.took, self.measured = 0.0, 0  # seconds, and for how many tokens

    def __enter__(self) -> "_Clock":
        self._behind = Behind().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._behind.__exit__(*error)

    def see(self, unit: Planned) -> None:
        began = time.perf_counter()
        laid = _laid(unit, self.settings)
        self.tokens += laid
        if laid and not self.seen:
            self._run(unit)  # what a first run takes longer is paid once
        if laid and self.seen < _MEASURED:
            self.seen += 1
            at = time.perf_counter()
            tensors = self._run(unit)
            self._behind.do(lambda: _made(unit, tensors))
            if self.seen == _MEASURED:
                self._behind.flush()
            self.took, self.measured = self.took + time.perf_counter() - at, self.measured + laid
        self.spent += time.perf_counter() - began

    def seconds(self) -> float:
        """Of running all units and making their files."""
        at = time.perf_counter()
        self._behind.flush()
        waited = time.perf_counter() - at
        self.spent += waited
        return (self.took + waited) / max(self.measured, 1) * self.tokens

    def _run(self, unit: Planned) -> dict[str, Tensor]:
        with threads_of(int(str(self.settings["threads"]))):
            rows, words = run_unit(self.subject, unit, self.names, self.settings)
            return tensors_of(unit, self.settings, rows, words, {})


def _made(unit: Planned, tensors: dict[str, Tensor]) -> None:
    """What becomes of a unit's tensors before the disk has them, and what is done when they are read back."""
    _, data = named(0, measured(tensors, unit.first, unit.next), tensors)
    files.sha256(data)


def _laid(unit: Planned, settings: dict[str, object]) -> int:
    """Tokens of a unit's runs, padding included."""
    pieces = unit.pieces
    batches = layout(pieces, int(str(settings["context"])), bool(settings["packed"]))
    return sum(len(batch) * max(sum(len(pieces[i]) for i in row) for row in batch) for batch in batches)


def _peak() -> int:
    """The most bytes that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
