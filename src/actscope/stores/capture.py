"""Reading a corpus through a subject into a store.

A unit is a run of whole documents with its batches, padding and thread count fixed, so its bytes do not depend on who
runs it or on what was run before. On disk one unit is one shard, and the manifest that names it is its commit: after
a kill at any moment the same call, in any number of processes, runs the units that are missing and ends in the same
content hash.
"""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from actscope.core.corpus import Corpus
from actscope.core.errors import Interrupted
from actscope.core.group import everyone
from actscope.core.progress import Progress, quiet, stop_requested
from actscope.core.site import Site
from actscope.core.subject import Subject
from actscope.stores._parts.asked import asked
from actscope.stores._parts.job import Job, Unit
from actscope.stores._parts.shared import write
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
    dtype: str | None = None,
    sinks: bool = False,
    start: int = 0,
    threads: int | None = None,
    progress: Progress = quiet,
) -> DiskStore | MemoryStore:
    """Read what stands at `sites` for every token of a corpus, into a store on disk (`out`) or in memory.

    A row is one text token, in corpus order; with `special` special tokens have rows too, and batches say which those are
    (`roles`). Of an image a row is a patch, or what the model puts beside them, and its token is its place. Documents longer
    than `context` (the subject's own when left out) are cut, each piece with its own special tokens; `packed` runs several
    short pieces in one row, and attention never crosses between them. Capture stops with the first unit that reaches `tokens`
    rows. `grads` keeps beside every row the gradient of the model's next-token loss there
    (nats, summed over the tokens of the sequence that text follows), at one backward pass a run and twice the room. `dtype`
    is how rows are kept: float32, bfloat16, float16 or int8 (with a scale a row), all read back as float32; as the subject
    gives them when left out. Gradients always are as it gives them. Rows over 20 times as long as the middle one at a site
    (attention sinks and the like) are set apart: `store.alarms` says what they are, `store.apart(ports)` gives them, and
    nothing else reads them; `sinks` keeps them among the others. `start` skips that many documents. The same call after an
    interruption goes on where it stopped; a finished one returns its store.
    threads: of torch while it runs, those it has when left out, and those it began with on resume.

    Under torchrun every process calls this alike, and they share out the units; the store is the one that a process by itself
    writes with as many `threads`, and any number of processes goes on where others stopped. In memory each has all of it.

    Raises UnknownSite; EmptyCorpus for fewer rows than one context; NotFinite naming document and site, also for a number that
    float16 cannot hold; BadInput for a site that is zero everywhere, and when `out` holds a capture with other settings or is
    being written; WrongSubject; DiskFull; Interrupted.
    """
    names, settings = asked(
        subject, corpus, sites, unit=UNIT, tokens=tokens, context=context, packed=packed, special=special, grads=grads,
        dtype=dtype, sinks=sinks, start=start, threads=threads,
    )  # fmt: skip
    job = Job(subject, corpus, names, settings, progress)
    if out is None:
        with contextlib.closing(job.units(start, 0)) as units:
            return MemoryStore(settings, list(_until_stopped(units)))
    write(everyone(), job, Path(out), kept_threads=threads is None)
    return DiskStore(out)


def _until_stopped(units: Iterable[Unit]) -> Iterator[Unit]:
    for unit in units:
        if stop_requested():
            raise Interrupted("Stopped. The activations were kept in memory only and are gone; give out= to keep them on disk.")
        yield unit
