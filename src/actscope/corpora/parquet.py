"""Parquet files as a corpus, read a group of rows at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from actscope.core import files as disk
from actscope.core.corpus import Document
from actscope.core.errors import BadInput, EmptyCorpus
from actscope.corpora._parts.extra import package
from actscope.corpora._parts.folder import found_in
from actscope.corpora._parts.records import Render, document_of, needs_template, template_hash, value_of

__all__ = ["parquet"]

_TOGETHER = 256  # rows decoded at once


class Parquet:
    """The rows of some Parquet files, in the order of their sorted names. A document's id is its file and row, from 0.

    What is read before a row that is asked for: the files' footers, and of its own group of rows the column.
    """

    def __init__(self, root: Path, found: list[Path], column: str, render: Render | None):
        self.name = root.name
        self._root, self._column, self._render = root, column, render
        self._files = [(path, [group for group in _groups(path, column)]) for path in found]
        self._hashes = [[self._shown(path), disk.hash_file(path)] for path in found]

    @property
    def fingerprint(self) -> str:
        """A hash of every file's name and bytes, the column and, for dialogues, how they are written."""
        told: list[object] = [*self._hashes, self._column]
        if self._render is not None and self.dialogues():
            told.append(template_hash(self._render))
        return disk.sha256(repr(told).encode("utf-8", "surrogateescape"))

    def __len__(self) -> int:
        return sum(sum(groups) for _, groups in self._files)

    def documents(self, start: int = 0) -> Iterator[Document]:
        """The documents from number `start` on; whole groups of rows before it are not read."""
        for path, groups in self._files:
            for number, rows in enumerate(groups):
                if start >= rows:
                    start -= rows
                    continue
                first = sum(groups[:number])
                for row, value in enumerate(self._values(path, number, start), first + start):
                    where = f"{path}, row {row}"
                    yield document_of(value_of({self._column: value}, self._column, where), self._render, self._id(path, row))
                start = 0

    def dialogues(self) -> bool:
        """Whether the first row that holds anything holds a dialogue. Raises BadInput for one that nobody can write."""
        for path, groups in self._files:
            for number in range(len(groups)):
                for value in self._values(path, number, 0):
                    if value is not None:
                        where = f"{path}, column {self._column!r}"
                        found = value_of({self._column: value}, self._column, where)
                        needs_template(found, self._render, where)
                        return not isinstance(found, str)
        return False

    def _values(self, path: Path, group: int, start: int) -> Iterator[object]:
        """The column's values in one group of rows, from the given one on."""
        pyarrow = package("pyarrow", "pyarrow", "Parquet")
        try:
            with _opened(path) as file:
                for batch in file.iter_batches(_TOGETHER, row_groups=[group], columns=[self._column]):
                    if start < len(batch):
                        yield from batch.column(0)[start:].to_pylist()
                    start = max(0, start - len(batch))
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise BadInput(
                f"{path} cannot be read ({str(error):.200}); expected a whole Parquet file. Get it again."
            ) from error

    def _id(self, path: Path, row: int) -> str:
        return f"{self._shown(path)}:{row}"

    def _shown(self, path: Path) -> str:
        return path.name if path == self._root else path.relative_to(self._root).as_posix()


def parquet(path: Path | str, *, column: str = "text", render: Render | None = None) -> Parquet:
    """The Corpus of a Parquet file, or of every one in a folder and below: a row is a document.

    column: its text, or its dialogue of messages {"role", "content"}, written by `render` (a chat model's `subject.render`).
    A null is an empty document. Never more than a group of rows is in memory, and reading from the middle skips whole groups.
    Needs pyarrow. Raises MissingExtra without it; BadInput for no such file or column, a link out of the folder, or what is
    no Parquet; EmptyCorpus when there is no row.
    """
    root = Path(path).expanduser()
    corpus = Parquet(root, found_in(root, (".parquet",), "Parquet"), column, render)
    if not len(corpus):
        raise EmptyCorpus(f"{path} holds no row; expected at least one document.")
    corpus.dialogues()
    return corpus


def _opened(path: Path) -> Any:
    return package("pyarrow.parquet", "pyarrow", "Parquet").ParquetFile(path, pre_buffer=False)


def _groups(path: Path, column: str) -> list[int]:
    """Rows of every group of one file. Raises BadInput for what is no Parquet, or has no such column."""
    pyarrow = package("pyarrow", "pyarrow", "Parquet")
    try:
        with _opened(path) as file:
            has = file.schema_arrow.names
            rows = [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]
    except (pyarrow.ArrowException, OSError) as error:
        raise BadInput(f"{path} cannot be read ({str(error):.200}); expected a whole Parquet file. Get it again.") from error
    if column not in has:
        raise BadInput(f"{path} has no column {column!r}; it has {', '.join(has):.300}. Name the one to read: column=.")
    return rows
