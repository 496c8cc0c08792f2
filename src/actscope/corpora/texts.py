"""A corpus of texts at hand."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import astuple

from actscope.core.corpus import Document
from actscope.core.errors import BadInput, EmptyCorpus

__all__ = ["texts"]


class Texts:
    """A list of documents as a Corpus."""

    def __init__(self, name: str, listed: list[Document]):
        self.name = name
        self._listed = listed
        digest = hashlib.sha256()
        for document in listed:
            digest.update(repr(astuple(document)[:4]).encode("utf-8", "backslashreplace") + b"\n")
        self.fingerprint = digest.hexdigest()

    def __len__(self) -> int:
        return len(self._listed)

    def documents(self, start: int = 0) -> Iterator[Document]:
        return iter(self._listed[start:])


def texts(given: Iterable[str | Document], *, name: str = "texts") -> Texts:
    """A Corpus of strings (named by their number and content) or Documents. Raises EmptyCorpus when there
    is none, BadInput for images.
    """
    listed = []
    for number, item in enumerate(given):
        if isinstance(item, str):
            digest = hashlib.sha256(item.encode("utf-8", "backslashreplace")).hexdigest()[:12]
            item = Document(f"{name}:{number}:{digest}", item)
        listed.append(item)
    if any(document.image is not None for document in listed):
        raise BadInput("Documents with images were given to texts(); `corpora.images.images` makes a corpus of images.")
    if not any(document.text for document in listed):
        raise EmptyCorpus(f"{len(listed)} texts were given and none holds a character; give at least one.")
    return Texts(name, listed)
