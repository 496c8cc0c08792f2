"""A store on disk."""

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from actscope.core import artifact, files
from actscope.core.errors import BadInput
from actscope.stores._parts.manifest import described, part_of
from actscope.stores._parts.order import BUFFER
from actscope.stores._parts.reader import Reader

__all__ = ["DiskStore"]

_OPEN = 8192  # shards mapped at once: a process may have some 65,000 maps


class DiskStore(Reader):
    """A finished capture, opened with `actscope.open`. Every shard is checked against its hash when it is first read in
    a process; a store that takes at most a quarter of the memory is then read into it once, a larger one is mapped.
    mixing: the bytes of rows that a shuffled pass mixes at a time, 1 GiB when left out; the order of a larger store depends on
    it.

    Raises BadInput for no store or an unfinished one, Corrupt naming a file that is not what the manifest says.
    """

    def __init__(self, path: Path | str, *, mixing: int | None = None):
        if mixing is not None and mixing < 1:
            raise BadInput(f"mixing={mixing}: expected how many bytes of rows are mixed at a time, such as {BUFFER}.")
        self.path, self.mixing = Path(path), mixing
        manifest = artifact.read_manifest(self.path)
        if manifest["kind"] != "store":
            raise BadInput(f"{path} holds a saved {manifest['kind']}; expected a store, which `actscope capture` makes.")
        if not manifest["complete"]:
            raise BadInput(
                f"The capture in {path} is unfinished ({manifest['rows']:,} rows so far); run its command again to finish it."
            )
        self.settings = manifest["settings"]
        self.ports, self.subjects = described(self.settings)
        self.content = manifest["content"]
        self.parts = tuple(map(part_of, manifest["units"]))
        self._files = [(unit["file"], manifest["files"][unit["file"]]) for unit in manifest["units"]]
        self._opened: dict[int, dict[str, Tensor]] = {}
        self._sound: set[int] = set()
        self._joined: dict[str, Tensor] = {}

    @cached_property
    def _fits(self) -> bool:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return sum(part.bytes for part in self.parts) <= memory // 4

    def _tensors(self, part: int) -> Mapping[str, Tensor]:
        if part not in self._opened:
            name, digest = self._files[part]
            if len(self._opened) >= _OPEN:
                del self._opened[next(iter(self._opened))]
            file, again = files.safe_join(self.path, name), f"`actscope repair {self.path} MODEL CORPUS` captures it again"
            self._opened[part] = files.read_tensors(file, None if part in self._sound else digest, again)
            self._sound.add(part)
        return self._opened[part]

    def _whole(self, name: str) -> Tensor | None:
        if not self._fits or not self.parts:
            return None
        if name not in self._joined:
            self._joined[name] = torch.cat([self._tensors(part)[name] for part in range(len(self.parts))])
        return self._joined[name]
