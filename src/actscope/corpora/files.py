"""Text files and folders of them as a corpus."""

from collections.abc import Callable, Iterator
from pathlib import Path

from actscope.core import files as disk
from actscope.core.corpus import Document
from actscope.core.errors import BadInput, EmptyCorpus
from actscope.corpora._parts.lines import json_lines
from actscope.corpora._parts.passages import python_passages, text_passages

__all__ = ["files"]

_READERS: dict[str, Callable[[str, str], Iterator[tuple[int, str]]]] = {
    ".txt": lambda text, shown: text_passages(text),
    ".md": lambda text, shown: text_passages(text),
    ".py": lambda text, shown: python_passages(text),
    ".jsonl": json_lines,
}
_KNOWN = ", ".join(_READERS)


class Files:
    """The documents of some files, in the order of their sorted names. A document's id is its file and line (3.1 where a
    second one begins on line 3)."""

    def __init__(self, root: Path, found: list[Path]):
        self.name = root.name
        self._root, self._found = root, found
        hashes = []
        for path in found:
            text = _read(path)
            if path.suffix == ".jsonl":  # a bad line is told now, not after hours
                for _ in json_lines(text, str(path)):
                    continue
            hashes.append([self._shown(path), disk.sha256(text.encode())])
        self.fingerprint = disk.sha256(repr(hashes).encode("utf-8", "surrogateescape"))

    def documents(self, start: int = 0) -> Iterator[Document]:
        """The documents from number `start` on."""
        number = 0
        for path in self._found:
            last, same = 0, 0
            for line, text in _READERS[path.suffix](_read(path), str(path)):
                last, same = line, same + 1 if line == last else 0
                if number >= start:
                    yield Document(f"{self._shown(path)}:{line}" + (f".{same}" if same else ""), text)
                number += 1

    def _shown(self, path: Path) -> str:
        """A file's name inside the folder given, the same wherever that folder stands."""
        return path.name if path == self._root else path.relative_to(self._root).as_posix()


def files(path: Path | str) -> Files:
    """The Corpus of a file (.txt .md .py .jsonl) or of every such file in a folder and below, hidden ones left out.

    Text is cut at blank lines into passages of at most 1500 characters, Python into top-level definitions, and a line of
    JSON is one document, its "text". Raises BadInput for a missing file, an unknown ending, bytes that are not UTF-8 or a
    line that is no such JSON; EmptyCorpus when there is no text.
    """
    root = Path(path).expanduser()
    if not root.exists():
        raise BadInput(f"There is no file or folder {path}; expected one with text ({_KNOWN}).")
    if root.is_dir():
        every = sorted(one for one in root.rglob("*") if one.suffix in _READERS and one.is_file())
        found = [one for one in every if not any(part.startswith(".") for part in one.relative_to(root).parts)]
        if not found:
            raise EmptyCorpus(f"The folder {path} holds no text file; expected {_KNOWN} in it or below.")
    elif root.suffix in _READERS:
        found = [root]
    else:
        raise BadInput(f"{path} ends in {root.suffix or 'nothing'!r}; expected {_KNOWN}. Rename it, or give a folder.")
    corpus = Files(root, found)
    if next(corpus.documents(), None) is None:
        raise EmptyCorpus(f"{path} holds no text, only blank space; expected at least one document.")
    return corpus


def _read(path: Path) -> str:
    """A file's text with plain line ends. Raises BadInput naming the place that is not UTF-8."""
    try:
        return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{path} is not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}. Convert it, for example with "
            f"`iconv -f latin1 -t utf-8 {path.name}`, or leave it out."
        ) from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}. Give a file you may read.") from error
