"""A store in memory."""

from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor

from actscope.core import artifact
from actscope.stores._parts.manifest import described, listed, named
from actscope.stores._parts.order import Part
from actscope.stores._parts.reader import Reader

__all__ = ["MemoryStore"]


class MemoryStore(Reader):
    """Captured activations held in memory; `actscope.capture` without `out` makes one. Its content hash, its rows and
    their shuffled orders are those of the same capture on disk."""

    def __init__(self, settings: Mapping[str, object], units: list[tuple[Part, dict[str, Tensor]]]):
        self.settings = dict(settings)
        self.ports, self.subjects = described(self.settings)
        self.parts = tuple(part for part, _ in units)
        self._held = [tensors for _, tensors in units]
        self._joined: dict[str, Tensor] = {}

    @property
    def content(self) -> str:
        """The content hash that the same capture has on disk."""
        return self._content

    @cached_property
    def _content(self) -> str:
        entries = [
            named(number, part, tensors)[0] for number, (part, tensors) in enumerate(zip(self.parts, self._held, strict=True))
        ]
        return artifact.content_hash(listed(self.settings, entries, complete=True))

    def _tensors(self, part: int) -> Mapping[str, Tensor]:
        return self._held[part]

    def _whole(self, name: str) -> Tensor | None:
        if name not in self._joined and self._held:
            joined = torch.cat([tensors[name] for tensors in self._held])
            for tensors, rows in zip(self._held, joined.split([part.rows for part in self.parts]), strict=True):
                tensors[name] = rows  # a view: the rows are held once
            self._joined[name] = joined
        return self._joined.get(name)
