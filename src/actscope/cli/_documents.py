"""Which text the main job reads, and which documents are kept aside to judge on."""

import hashlib
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from actscope.cli._corpus import corpus_named
from actscope.core.corpus import Corpus, Document
from actscope.core.errors import BadInput, EmptyCorpus
from actscope.core.labels import Labels
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.corpora.standard_library import standard_library
from actscope.corpora.texts import Texts, texts

_CHARACTERS = 5  # a token has fewer than this many on average, whatever the tokenizer here
_BUILT_IN = ("pocket", "pocket-mini")
_REAL = 0.06  # of the built-in text's documents, which is about a quarter of its tokens; the rest is grammar


def source(text: Path | None, model: str, seed: int, subject: Subject | None = None) -> Corpus:
    """The text to read: the reader's own; for the built-in models what they were not trained on; else the standard library."""
    if text is not None:
        corpus = corpus_named(str(text), subject=None if subject is None else lambda: subject)
        if (first := next(corpus.documents(), None)) is not None and first.image is not None:
            raise BadInput(f"{text} holds images; rules are about text. `actscope capture MODEL {text}` reads images.")
        return corpus
    if model.partition("@")[0] not in _BUILT_IN:
        return standard_library(split="all")
    from actscope.corpora.mixture import mixture
    from actscope.organisms.grammar import grammar

    held = standard_library(split="held")
    made = grammar(seed=seed + 1000, documents=40_000, split="test")
    return mixture([(made, 1 - _REAL), (held, _REAL)], seed=seed)


@dataclass(frozen=True)
class Parts:
    """Documents to fit on and documents to judge on, disjoint."""

    fit: Texts
    held: Texts
    total: int


def divide(corpus: Corpus, rows: int, share: float, salt: bytes = b"") -> Parts:
    """At most about `rows` tokens of the corpus, `share` of the documents to fit on, by a hash of each document's text, so that
    the same text is never on both sides; another salt draws other sides. Raises EmptyCorpus when a side stays empty."""
    sides: tuple[list[Document], list[Document]] = ([], [])
    left = rows * _CHARACTERS
    for document in corpus.documents():
        if left <= 0:
            break
        left -= len(document.text)
        digest = hashlib.sha256(salt + document.text.encode("utf-8", "backslashreplace")).digest()
        sides[int.from_bytes(digest[:8], "big") / 2**64 >= share].append(document)
    fit, held = sides
    if len(fit) < 2 or len(held) < 6:
        raise EmptyCorpus(
            f"{corpus.name} has {len(fit) + len(held)} documents; expected at least 20, so that some can be kept aside to "
            "judge on. Give a longer text, or a folder of texts."
        )
    return Parts(texts(fit, name=corpus.name), texts(held, name=corpus.name), len(fit) + len(held))


def labels(subject: Subject, corpus: Texts, store: Store) -> Labels | None:
    """What is known to be true of the store's documents; None where nothing is."""
    from actscope.organisms.truth import truth

    last = max(store.documents) + 1
    if not any(document.spans for document in islice(corpus.documents(), last)):
        return None
    return truth(corpus, subject, documents=last)
