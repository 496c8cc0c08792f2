"""Where a run stands, on disk: it can be killed at any moment and goes on from its last committed step.

Of several processes each writes its share of the state; when all have, the first one commits.

OUT/manifest.json             kind "fit" while the run lasts; the finished thing's own manifest afterwards
OUT/checkpoints/step-000064/  manifest.json (the commit) + a file a process; the last two are kept
"""

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from actscope.core import artifact, files
from actscope.core.errors import BadInput, Corrupt
from actscope.training import shards
from actscope.training.distributed import ALONE, Mesh

KEPT = 2


class Saved(NamedTuple):
    tensors: dict[str, Tensor]
    values: dict


class Checkpoints:
    """The folder of one run. `identity` is what must be the same for the run to be resumed. mesh: who shares the run.

    Raises BadInput, with the differences, where `out` holds a run with other settings or something else.
    """

    def __init__(self, out: Path | str, identity: Mapping[str, object], mesh: Mesh = ALONE):
        self.out, self.mesh = Path(out), mesh
        self.folder = self.out / "checkpoints"
        mesh.first_does(lambda: self._begin(identity))
        manifest = artifact.read_manifest(self.out)
        self.threads: int = _record(self.out, manifest)["threads"]
        self.finished = manifest["kind"] != "fit"

    def _begin(self, identity: Mapping[str, object]) -> None:
        """Make the folder a run's, or see that it is this one's."""
        if not (self.out / "manifest.json").exists():
            if self.out.exists() and (not self.out.is_dir() or any(path.name[0] != "." for path in self.out.iterdir())):
                raise BadInput(f"{self.out} holds other things; expected a new or empty folder, or one that a fit began.")
            artifact.commit(self.out, {"kind": "fit", "files": {}, "fit": {**identity, "threads": torch.get_num_threads()}})
        manifest = artifact.read_manifest(self.out)
        fit = _record(self.out, manifest)
        other = _differences(fit, {**fit, **identity}, "")
        if other:
            raise BadInput(
                f"{self.out} holds a fit with other settings: {'; '.join(other)}. "
                "Use the same settings to go on, or another folder."
            )
        for path in [self.out, *self.folder.glob("step-*")]:
            files.remove_leftovers(path)

    def commit(
        self, step: int, tensors: Mapping[str, Tensor], values: Mapping[str, object], split: frozenset[str] = frozenset()
    ) -> None:
        """Publish the state after `step` steps, then retire the oldest beyond the last two. split: the tensors of which
        every process that shares out the latents holds other rows."""
        path = self.folder / f"step-{step:08d}"
        layout = self.mesh.layout(split)
        written = self.mesh.every.told(self.mesh.together(lambda: shards.write(path, tensors, layout)))
        self.mesh.first_does(lambda: self._publish(path, step, written, values))

    def _publish(self, path: Path, step: int, written: list, values: Mapping[str, object]) -> None:
        rows: dict[str, list[list]] = {}
        for file, _, spans in written:
            for name, span in spans.items():
                rows.setdefault(name, []).append([file, *span])
        hashes = {file: digest for file, digest, _ in written}
        artifact.commit(path, {"kind": "checkpoint", "step": step, "files": hashes, "rows": rows, "values": dict(values)})
        files.sync_folder(self.folder)
        for old in self._steps()[:-KEPT]:
            self._retire(old)

    def latest(self, split: frozenset[str] = frozenset()) -> Saved | None:
        """The newest state that verifies, as much of it as this process holds; None at the start. A damaged one is passed over
        with a warning."""
        names = self.mesh.every.told([path.name for path in self._steps()])[0]
        for path in (self.folder / name for name in reversed(names)):
            try:
                return self.mesh.together(lambda path=path: self._read(path, split))
            except (Corrupt, BadInput) as error:
                warnings.warn(f"{error} Going on from the checkpoint before it.", stacklevel=2)
        return None

    def _read(self, path: Path, split: frozenset[str]) -> Saved:
        manifest = artifact.read_manifest(path)
        if "rows" not in manifest:
            raise BadInput(f"{path} does not say which rows its files hold: an earlier actscope wrote it.")
        tensors = shards.read(path, manifest["files"], manifest["rows"], self.mesh.layout(split))
        return Saved(tensors, {**manifest["values"], "step": manifest["step"]})

    def newest(self) -> str:
        """Where the last committed state is, in words."""
        steps = self._steps()
        return f"the last good checkpoint is {steps[-1]}" if steps else "no checkpoint was committed yet"

    def final(self) -> dict[str, Tensor]:
        """The tensors of a finished run."""
        tensors: dict[str, Tensor] = {}
        for name, digest in artifact.read_manifest(self.out)["files"].items():
            tensors.update(files.read_tensors(files.safe_join(self.out, name), digest))
        return tensors

    def clear(self) -> None:
        """Remove the checkpoints of a finished run, once nobody reads them any more."""
        self.mesh.first_does(self._clear)

    def _clear(self) -> None:
        for path in self._steps():
            self._retire(path)
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def _steps(self) -> list[Path]:
        return sorted(path.parent for path in self.folder.glob("step-*/manifest.json"))

    def _retire(self, path: Path) -> None:
        (path / "manifest.json").unlink()  # uncommitted first; a half-removed folder is then nobody's
        files.fault_point("fit.retire")
        shutil.rmtree(path)


def _record(out: Path, manifest: Mapping) -> dict:
    """What the manifest says of the fit that made it."""
    fit = manifest["fit"] if manifest["kind"] == "fit" else manifest.get("extra", {}).get("fit")
    if fit is None:
        raise BadInput(f"{out} holds a {manifest['kind']} that no fit made; give another folder.")
    return fit


def _differences(there: object, here: object, name: str) -> list[str]:
    """ "plan.lr is 0.001 there and 0.01 here" for every value that differs."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        keys = sorted({*there, *here})
        return [
            line for key in keys for line in _differences(there.get(key), here.get(key), f"{name}.{key}" if name else str(key))
        ]
    return [] if there == here else [f"{name} is {there!r} there and {here!r} here"]
