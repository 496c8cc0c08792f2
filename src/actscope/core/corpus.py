"""Documents to read, texts or images, with what is known to be true of their characters, in an order that can be resumed.

A corpus numbers its documents from 0 in a fixed order; the cursor is that number. Its `fingerprint` covers the
contents, so a resumed capture can tell that the text has changed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Span:
    """Characters start..end (end excluded) of a document for which `cause` holds, such as "ioi.answer" or "day.monday"."""

    start: int
    end: int
    cause: str


@dataclass(frozen=True)
class Document:
    """One text, or one image as a model takes it. Sequences never join two documents unless packed, and attention never
    crosses between them."""

    id: str
    text: str
    spans: tuple[Span, ...] = ()
    family: str = ""  # the source inside a mixed corpus: a rule's name, "text", or an image's class
    image: Float[Tensor, "c h w"] | None = field(default=None, compare=False, repr=False)  # then the text is empty


@runtime_checkable
class Corpus(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str:
        """Hash of every content this corpus would give."""
        ...

    def documents(self, start: int = 0) -> Iterator[Document]:
        """The documents from number `start` on. Two calls give the same documents."""
        ...
