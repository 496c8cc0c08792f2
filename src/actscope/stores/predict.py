"""What a capture would hold, without running it."""

from collections.abc import Iterable
from dataclasses import dataclass

from actscope.core.corpus import Corpus
from actscope.core.site import Site, resolve
from actscope.core.subject import Subject
from actscope.stores._parts import formats
from actscope.stores._parts.pieces import planned, rows_of, sample
from actscope.stores._parts.running import probe, sequences
from actscope.stores.capture import UNIT

__all__ = ["predict"]


@dataclass(frozen=True)
class Prediction:
    """Sizes of a capture on disk, to within a hundredth."""

    rows: int
    documents: int
    units: int
    bytes: int


def predict(
    subject: Subject,
    corpus: Corpus,
    sites: Iterable[str | Site] | str | Site,
    *,
    tokens: int | None = None,
    context: int | None = None,
    special: bool = False,
    grads: bool = False,
    dtype: str | None = None,
    start: int = 0,
) -> Prediction:
    """Tokenize what `capture` with these settings would read, and count; sites that not every token reaches count as if all
    did."""
    found = probe(subject, resolve(sites, subject.sites, subject.missing), sample(subject, corpus))
    formats.known(dtype)
    acts = sum(formats.bytes_of(width, dtype, own) for width, own in found.values())
    beside = sum(width * own.itemsize for width, own in found.values()) if grads else 0
    per_row = acts + beside + 20 + special  # and its place, token and role
    rows = documents = units = size = 0
    for unit in planned(subject, corpus, start, context or subject.context, UNIT):
        rows += (here := sum(int(rows_of(piece, special).sum()) for piece in unit.pieces))
        size += here * per_row + sum(x.numel() * x.element_size() for x in sequences(unit).values()) + 1024
        documents, units = documents + len(unit.names), units + 1
        if tokens is not None and rows >= tokens:
            break
    return Prediction(rows, documents, units, size)
