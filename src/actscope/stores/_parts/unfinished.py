"""A long pass whose state stands on disk: it can be killed at any moment and goes on from its last commit.

OUT/manifest.json   kind "pass" while it lasts, naming the files of its state; the finished value's own manifest afterwards
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from actscope.core import artifact, files, lock
from actscope.core.errors import BadInput


class Unfinished:
    """The folder of one pass, held while it runs. settings: what must be the same for it to be resumed; beside them the thread
    count that it began with is kept.

    Raises BadInput, with the differences, where `out` holds a pass with other settings or something else, or is being written.
    """

    def __init__(self, out: Path, settings: Mapping[str, object], threads: int):
        self.out, self.settings = out, dict(settings)
        if not (out / "manifest.json").exists():
            if any(path.name[0] != "." for path in out.iterdir()):
                raise BadInput(f"{out} holds other things; expected a new or empty folder, or one that this pass began.")
            self._commit({}, 0, threads)
        manifest = artifact.read_manifest(out)
        kept = manifest["pass"] if manifest["kind"] == "pass" else manifest.get("extra", {}).get("pass")
        if kept is None:
            raise BadInput(f"{out} holds a {manifest['kind']} that no pass over a store made; give another folder.")
        there = kept["settings"]
        if other := [f"{key} is {there.get(key)!r} there and {value!r} here" for key, value in settings.items()
                     if there.get(key) != value]:  # fmt: skip
            raise BadInput(
                f"{out} holds a pass with other settings: {'; '.join(other)}. Use the same to go on, or another folder."
            )
        self.finished = manifest["kind"] != "pass"
        self.threads, self.done = kept["threads"], kept.get("done", 0)
        self._files: dict[str, str] = manifest["files"]
        self._tidy()

    def state(self) -> dict[str, Tensor]:
        """What was committed last; nothing at the start. Raises Corrupt."""
        found: dict[str, Tensor] = {}
        again = f"delete {self.out} and run the same command again"
        for name, digest in self._files.items():
            found |= files.read_tensors(files.safe_join(self.out, name), digest, again)
        return found

    def commit(self, state: Mapping[str, Tensor], done: int) -> None:
        """Publish the state after `done` steps. A file a tensor, so that no more than one is held twice."""
        hashes = {}
        for name, x in state.items():
            file = f"tensors-{done:09d}-{name}.safetensors"
            hashes[file] = files.write_tensors(self.out / file, {name: x})
        self._commit(hashes, done, self.threads)
        self._tidy()

    def finish(self, value: object) -> None:
        """Put the value in the place of the state."""
        artifact.save(value, self.out, **{"pass": {"settings": self.settings, "threads": self.threads}})
        self._files = artifact.read_manifest(self.out)["files"]
        self._tidy()

    def _commit(self, hashes: dict[str, str], done: int, threads: int) -> None:
        kept = {"settings": self.settings, "threads": threads, "done": done}
        artifact.commit(self.out, {"kind": "pass", "files": hashes, "pass": kept})
        self._files = hashes

    def _tidy(self) -> None:
        """Remove what killed writers and earlier commits left."""
        files.remove_leftovers(self.out)
        for path in self.out.glob("tensors-*.safetensors"):
            if path.name not in self._files:
                path.unlink()


@contextlib.contextmanager
def unfinished(out: Path | str, settings: Mapping[str, object], threads: int | None) -> Iterator[Unfinished]:
    """The pass in a folder, which nobody else writes meanwhile."""
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out} is a file; expected a folder, new or empty.")
    out.mkdir(parents=True, exist_ok=True)
    with lock.hold(out):
        yield Unfinished(out, settings, threads or torch.get_num_threads())
