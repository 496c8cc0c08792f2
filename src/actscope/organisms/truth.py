"""What is true by construction: which causes hold at each token of a corpus, as a subject's tokenizer splits it."""

import dataclasses
from collections.abc import Iterator
from itertools import islice

from actscope.core.corpus import Corpus, Document, Span
from actscope.core.errors import EmptyCorpus
from actscope.core.labels import Labels, labels_of
from actscope.core.subject import Subject

__all__ = ["truth"]

_AT_ONCE = 256  # documents


def truth(
    corpus: Corpus, subject: Subject, *, start: int = 0, documents: int | None = None, plain: str | None = "none"
) -> Labels:
    """Labels at (document number, token position): a token holds every cause whose characters it has, and `plain` where no
    rule and no known word stands, as everywhere in real text (None: nothing).

    documents: how many to label, from number `start` on (None: all). Positions count every token, special ones included,
    as stores do. Raises EmptyCorpus when there is nothing to label.
    """
    stop = None if documents is None else start + documents
    numbered = enumerate(islice(corpus.documents(start), None if stop is None else stop - start), start)
    labels = labels_of(_offsets(numbered, subject, plain))
    if not labels.holds:
        raise EmptyCorpus(f"{corpus.name} has no document from number {start} on; expected at least one to label.")
    return labels


def _offsets(
    numbered: Iterator[tuple[int, Document]], subject: Subject, rest: str | None
) -> Iterator[tuple[int, Document, list[tuple[int, int]]]]:
    """(number, document, characters of each token); plain documents get the span `rest` over all they hold."""
    while some := list(islice(numbered, _AT_ONCE)):
        inputs = subject.prepare([document.text for _, document in some])
        assert inputs.offsets is not None
        for (number, document), offsets in zip(some, inputs.offsets.tolist(), strict=True):
            plain = () if rest is None else (Span(0, len(document.text), rest),)
            labelled = document if document.spans else dataclasses.replace(document, spans=plain)
            yield number, labelled, [(first, end) for first, end in offsets]
