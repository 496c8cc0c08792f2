"""Hugging Face datasets as a corpus, streamed, with a cursor of our own.

A stream's own way to go on (its state_dict) skips or repeats rows in several versions, so it is not used: the cursor is
a number of rows that we count from the start, and what is passed on the way is hashed and compared with the first pass.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from actscope.core.corpus import Document
from actscope.core.errors import BadInput, EmptyCorpus
from actscope.corpora._parts.extra import package
from actscope.corpora._parts.records import Render, document_of, needs_template, template_hash, value_of

__all__ = ["datasets"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_BLOCK = 1000  # rows between two hashes of what was passed; of a stream, so many are in its fingerprint


class Datasets:
    """The rows of a dataset. A document's id is its row, from 0, and a hash of its content."""

    def __init__(self, name: str, rows: Any, column: str, render: Render | None, origin: str):
        self.name = name
        self._rows, self._column, self._render, self._origin = rows, column, render, origin
        self._passed: dict[int, str] = {}  # row -> hash of everything before it
        self._sized = hasattr(rows, "select") and hasattr(rows, "__len__")
        self._hash = ""

    @property
    def fingerprint(self) -> str:
        """A hash of every row of a dataset at hand; of a stream, whose end nobody has seen, of where it comes from (on the
        hub: its commit) and of its first 1000 rows."""
        if not self._hash:
            digest = hashlib.sha256(repr([self._origin, self._column]).encode())
            dialogues = False
            for number, value in enumerate(self._values(0)):
                if not self._sized and number == _BLOCK:
                    break
                dialogues |= not isinstance(value, str)
                digest.update(_content(value).encode())
            if dialogues:
                digest.update(template_hash(self._render).encode())
            self._hash = digest.hexdigest()
        return self._hash

    def documents(self, start: int = 0) -> Iterator[Document]:
        """The documents from number `start` on. A stream is read from its start, and what is passed must be what was passed
        before: BadInput otherwise."""
        first = start if self._sized else 0
        digest = hashlib.sha256()
        for number, value in enumerate(self._values(first), first):
            content = _content(value)
            if not self._sized:
                digest.update(content.encode())
                if (number + 1) % _BLOCK == 0:
                    self._compare(number, digest.hexdigest())
            if number >= start:
                yield document_of(value, self._render, f"{self.name}:{number}:{content[:12]}")

    def _compare(self, number: int, digest: str) -> None:
        if self._passed.setdefault(number, digest) != digest:
            raise BadInput(
                f"{self.name} gives other rows than before, somewhere in the {_BLOCK} before row {number + 1:,}; expected a "
                "dataset that is the same every time. Name a revision=, and leave shuffling to the store."
            )

    def _values(self, start: int) -> Iterator[Any]:
        """The values of the column from row `start` on, of a dataset at hand; of a stream all."""
        if self._sized and start >= len(self._rows):
            return
        rows = self._rows.select(range(start, len(self._rows))) if self._sized and start else self._rows
        for number, row in enumerate(rows, start):
            where = f"{self.name}, row {number}"
            if not isinstance(row, Mapping):
                raise BadInput(f"{where} is a {type(row).__name__}; expected a mapping with a field {self._column!r}.")
            value = value_of(row, self._column, where)
            needs_template(value, self._render, where)
            yield value


def datasets(
    given: Any,
    *,
    column: str = "text",
    split: str | None = None,
    config: str | None = None,
    revision: str | None = None,
    render: Render | None = None,
    name: str = "",
) -> Datasets:
    """The Corpus of a Hugging Face dataset: a `Dataset` or `IterableDataset` at hand, or a hub id, which is streamed.

    A row is a document. column: its text, or its dialogue of messages {"role", "content"}, written by `render` (a chat model's
    `subject.render`). split ("train" when left out), config, revision: of a hub id; its commit is looked up once and kept, so
    that the rows stay the same. Code that comes with a dataset is never run. Needs the package datasets.

    Raises MissingExtra without it, BadInput for what is no dataset or cannot be fetched, EmptyCorpus when there is no row.
    """
    if isinstance(given, str):
        rows, origin = _streamed(given, config, split or "train", revision)
    elif split is not None or config is not None or revision is not None:
        raise BadInput("split=, config= and revision= belong to a hub id; choose them when you open the dataset yourself.")
    elif not hasattr(given, "__iter__") or isinstance(given, Mapping):
        raise BadInput(
            f"{type(given).__name__} given; expected a Dataset, an IterableDataset or a hub id. Choose a split of it."
        )
    else:
        rows, origin = given, ""
    if hasattr(rows, "select_columns") and column in (getattr(rows, "column_names", None) or ()):
        rows = rows.select_columns([column])  # pictures and sounds beside it are not decoded
    corpus = Datasets(name or (given if isinstance(given, str) else "dataset"), rows, column, render, origin)
    if next(iter(corpus._values(0)), None) is None:
        raise EmptyCorpus(f"{corpus.name} has no row; expected at least one document.")
    return corpus


def _streamed(id: str, config: str | None, split: str, revision: str | None) -> tuple[Any, str]:
    """(the stream, where it comes from) of a hub id."""
    if not _HUB_ID.fullmatch(id) or Path(id).exists():
        raise BadInput(f"{id!r} is no hub id; expected one such as org/name. For files here use parquet(path) or files(path).")
    loaded = package("datasets", "datasets", "datasets of the hub")
    hub = package("huggingface_hub", "huggingface_hub", "datasets of the hub")
    try:
        commit = hub.HfApi().dataset_info(id, revision=revision).sha
        rows = loaded.load_dataset(id, config, split=split, revision=commit, streaming=True)
    except Exception as error:  # many kinds, of several packages: offline, no such id, split or config, no permission
        reason = str(error).strip().split("\n")[0]
        raise BadInput(
            f"The dataset {id!r} could not be fetched ({type(error).__name__}: {reason:.200}). Check the id, the split and the "
            "config, or connect to the network."
        ) from error
    return rows, f"{id}@{commit}:{config}:{split}"


def _content(value: str | list) -> str:
    return hashlib.sha256(repr(value).encode("utf-8", "backslashreplace")).hexdigest()
