"""Real text that every Python has: the functions, classes and docstrings of the standard library.

One document a function or method, one for the head of each class (down to its first method), one a module's docstring.
A document's split follows from a hash of its own content, so the same function is on the same side in every Python.
"""

import ast
import hashlib
import os
import sysconfig
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from actscope.core.corpus import Document
from actscope.core.errors import EmptyCorpus, UsageError

__all__ = ["standard_library"]

_SKIPPED = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "idle_test", "ensurepip", "turtledemo"}
_SHORTEST = 60  # characters
_HELD = 20  # one document in this many is held out
_Function = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class StandardLibrary:
    """A corpus. Documents stand in the order of their content hashes, which mixes the modules."""

    root: Path
    split: str
    name: str = "standard-library"

    @cached_property
    def _documents(self) -> list[Document]:
        kept = {"train": (False,), "held": (True,), "all": (False, True)}[self.split]
        documents = [document for digest, document in _everything(self.root) if is_held(digest) in kept]
        if not documents:
            raise EmptyCorpus(f"{self.root} holds no Python source; expected a standard library. Give its folder as root=.")
        return documents

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256("\n".join(document.id for document in self._documents).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._documents)

    def documents(self, start: int = 0) -> Iterator[Document]:
        """The documents from number `start` on."""
        return iter(self._documents[start:])

    def document(self, number: int) -> Document:
        return self._documents[number]


def standard_library(root: str | Path | None = None, split: str = "train") -> StandardLibrary:
    """Functions, class heads and module docstrings of a standard library.

    root: its folder (default: the running Python's). split: "train", "held" (one in twenty, by content hash) or "all".
    Raises UsageError for another split; EmptyCorpus, when read, where `root` holds no Python source.
    """
    if split not in ("train", "held", "all"):
        raise UsageError(f"split={split!r}; expected 'train', 'held' or 'all'.")
    return StandardLibrary(Path(sysconfig.get_paths()["stdlib"] if root is None else root), split)


def content_hash(text: str) -> str:
    """64 bits of a hash of the text, in hexadecimal."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def is_held(digest: str) -> bool:
    """Whether the document with this content hash is held out of training."""
    return int(digest, 16) % _HELD == 0


@lru_cache(maxsize=1)
def _everything(root: Path) -> tuple[tuple[str, Document], ...]:
    """(content hash, document) of every piece under `root`, each content once, sorted by hash."""
    found: dict[str, Document] = {}
    for folder, inside, names in os.walk(root):
        inside[:] = sorted(name for name in inside if name not in _SKIPPED)
        for name in sorted(name for name in names if name.endswith(".py")):
            path = Path(folder, name)
            where = path.relative_to(root).as_posix()
            for piece, text in _pieces(path):
                digest = content_hash(text)
                found.setdefault(digest, Document(f"{where}:{piece}#{digest}", text, family="text"))
    return tuple(sorted(found.items()))


def _pieces(path: Path) -> Iterator[tuple[str, str]]:
    """(where, text) of every piece of one module; nothing for a file that is not valid Python."""
    try:
        source = path.read_text(encoding="utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library's own invalid escapes and the like
            tree = ast.parse(source)
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return
    lines = source.splitlines()
    docstring = ast.get_docstring(tree)
    if docstring and len(docstring) >= _SHORTEST:
        yield "doc", docstring
    for node in _definitions(tree):
        first = min([node.lineno, *(item.lineno for item in node.decorator_list)])
        text = textwrap.dedent("\n".join(lines[first - 1 : _end(node)])).strip()
        if len(text) >= _SHORTEST:
            yield f"{node.name}:{first}", text


def _definitions(node: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Every function and class below `node`; only statements are looked into."""
    for block in ("body", "orelse", "finalbody", "handlers"):
        for inside in getattr(node, block, ()) if not isinstance(node, ast.expr) else ():
            if isinstance(inside, (*_Function, ast.ClassDef)):
                yield inside
            yield from _definitions(inside)


def _end(node: ast.AST) -> int:
    """The last line of a function, or the line before a class's first method."""
    if isinstance(node, ast.ClassDef):
        for inside in node.body:
            if isinstance(inside, (*_Function, ast.ClassDef)):
                return min([inside.lineno, *(item.lineno for item in inside.decorator_list)]) - 1
    return node.end_lineno  # type: ignore[attr-defined]
