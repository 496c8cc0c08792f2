"""Text files and folders of them as a corpus."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from actscope.core import files as disk
from actscope.core.corpus import Document, Span
from actscope.core.errors import BadInput, EmptyCorpus
from actscope.corpora._parts.folder import ending, found_in
from actscope.corpora._parts.lines import json_line, lines, not_utf8
from actscope.corpora._parts.passages import python_passages, text_passages
from actscope.corpora._parts.records import Message, Render, document_of, needs_template, spans_of, template_hash, value_of

__all__ = ["files"]

_READERS: dict[str, Callable[[str], Iterator[tuple[int, str]]]] = {
    ".txt": text_passages,
    ".md": text_passages,
    ".py": python_passages,
}
_LINES = (".jsonl", ".jsonl.gz")
_ENDINGS = (*_READERS, *_LINES)
_KNOWN = ", ".join(_ENDINGS)


class Files:
    """The documents of some files, in the order of their sorted names. A document's id is its file and line (3.1 where a
    second one begins on line 3)."""

    def __init__(self, root: Path, found: list[Path], column: str, render: Render | None, spans: str | None = None):
        self.name = root.name
        self._root, self._found, self._column, self._render, self._spans = root, found, column, render, spans
        self._hashes, self._dialogues = [], False
        for path in found:
            digest = self._checked_lines(path) if ending(path, _LINES) else disk.sha256(_read(path).encode())
            self._hashes.append([self._shown(path), digest])

    @property
    def fingerprint(self) -> str:
        """A hash of every file's name and text and, where there are dialogues, of how they are written."""
        told: list[object] = list(self._hashes)
        if self._column != "text":
            told.append(self._column)
        if self._dialogues:
            told.append(template_hash(self._render))
        return disk.sha256(repr(told).encode("utf-8", "surrogateescape"))

    def documents(self, start: int = 0) -> Iterator[Document]:
        """The documents from number `start` on."""
        number = 0
        for path in self._found:
            if ending(path, _LINES):
                for line, text in _filled(path):
                    if number >= start:
                        yield self._document(path, line, text)
                    number += 1
                continue
            last, same = 0, 0
            for line, text in _READERS[ending(path, _ENDINGS)](_read(path)):
                last, same = line, same + 1 if line == last else 0
                if number >= start:
                    yield Document(f"{self._shown(path)}:{line}" + (f".{same}" if same else ""), text)
                number += 1

    def empty(self) -> bool:
        """Whether there is no document."""
        every = (
            _filled(path) if ending(path, _LINES) else _READERS[ending(path, _ENDINGS)](_read(path)) for path in self._found
        )
        return all(next(found, None) is None for found in every)

    def _document(self, path: Path, line: int, text: str) -> Document:
        value, spans = self._record(path, line, text)
        return document_of(value, self._render, f"{self._shown(path)}:{line}", spans)

    def _record(self, path: Path, line: int, text: str) -> tuple[str | list[Message], tuple[Span, ...]]:
        where = f"{path}, line {line}"
        record = json_line(text, str(path), line)
        value = value_of(record, self._column, where)
        if self._spans is None or not isinstance(value, str):
            return value, ()
        return value, spans_of(record, self._spans, value, where)

    def _checked_lines(self, path: Path) -> str:
        """A hash of the lines; a bad one is told now, not after hours."""
        digest = hashlib.sha256()
        for line, text in _filled(path):
            where = f"{path}, line {line}"
            value, _ = self._record(path, line, text)
            needs_template(value, self._render, where)
            self._dialogues |= not isinstance(value, str)
            digest.update(f"{line}:{text}\n".encode())
        return digest.hexdigest()

    def _shown(self, path: Path) -> str:
        """A file's name inside the folder given, the same wherever that folder stands."""
        return path.name if path == self._root else path.relative_to(self._root).as_posix()


def files(path: Path | str, *, column: str = "text", render: Render | None = None, spans: str | None = None) -> Files:
    """The Corpus of a file (.txt .md .py .jsonl .jsonl.gz) or of every such file in a folder and below, hidden ones left out.

    Text is cut at blank lines into passages of at most 1500 characters, Python into top-level definitions, and a line of
    JSON is one document: its field `column`, a string, or a dialogue of messages {"role", "content"} (also under "messages"),
    written by `render` (a chat model's `subject.render`). spans: the field of JSON lines that labels characters of the text,
    [{"start": 0, "end": 4, "label": "name"}, ...], where there is one. Raises BadInput for a missing file, an unknown ending,
    a link out of the folder, bytes that are not UTF-8, or a line that is no such JSON; EmptyCorpus when there is no text.
    """
    root = Path(path).expanduser()
    corpus = Files(root, found_in(root, _ENDINGS, "text"), column, render, spans)
    if corpus.empty():
        raise EmptyCorpus(f"{path} holds no text, only blank space; expected at least one document.")
    return corpus


def _filled(path: Path) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in lines(path) if line.strip())


def _read(path: Path) -> str:
    """A file's text with plain line ends. Raises BadInput naming the place that is not UTF-8."""
    try:
        return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise BadInput(not_utf8(path, error.start, error.object[error.start])) from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}. Give a file you may read.") from error
