"""Where a run stands, on disk: it can be killed at any moment and goes on from its last committed step.

OUT/manifest.json             kind "fit" while the run lasts; the finished thing's own manifest afterwards
OUT/checkpoints/step-000064/  manifest.json (the commit) + state.safetensors; the last two are kept
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

KEPT = 2


class Saved(NamedTuple):
    tensors: dict[str, Tensor]
    values: dict


class Checkpoints:
    """The folder of one run. `identity` is what must be the same for the run to be resumed.

    Raises BadInput, with the differences, where `out` holds a run with other settings or something else.
    """

    def __init__(self, out: Path | str, identity: Mapping[str, object]):
        self.out = Path(out)
        self.folder = self.out / "checkpoints"
        if not (self.out / "manifest.json").exists():
            if self.out.exists() and (not self.out.is_dir() or any(path.name[0] != "." for path in self.out.iterdir())):
                raise BadInput(f"{self.out} holds other things; expected a new or empty folder, or one that a fit began.")
            artifact.commit(self.out, {"kind": "fit", "files": {}, "fit": {**identity, "threads": torch.get_num_threads()}})
        manifest = artifact.read_manifest(self.out)
        fit = manifest["fit"] if manifest["kind"] == "fit" else manifest.get("extra", {}).get("fit")
        if fit is None:
            raise BadInput(f"{self.out} holds a {manifest['kind']} that no fit made; give another folder.")
        self.threads: int = fit["threads"]
        self.finished = manifest["kind"] != "fit"
        other = _differences(fit, {**fit, **identity}, "")
        if other:
            raise BadInput(
                f"{self.out} holds a fit with other settings: {'; '.join(other)}. "
                "Use the same settings to go on, or another folder."
            )
        for path in [self.out, *self.folder.glob("step-*")]:
            files.remove_leftovers(path)

    def commit(self, step: int, tensors: Mapping[str, Tensor], values: Mapping[str, object]) -> None:
        """Publish the state after `step` steps, then retire the oldest beyond the last two."""
        path = self.folder / f"step-{step:08d}"
        digest = files.write_tensors(path / "state.safetensors", tensors)
        manifest = {"kind": "checkpoint", "step": step, "files": {"state.safetensors": digest}, "values": dict(values)}
        artifact.commit(path, manifest)
        files.sync_folder(self.folder)
        for old in self._steps()[:-KEPT]:
            self._retire(old)

    def latest(self) -> Saved | None:
        """The newest state that verifies; None at the start. A damaged one is passed over with a warning."""
        for path in reversed(self._steps()):
            try:
                manifest = artifact.read_manifest(path)
                tensors = files.read_tensors(path / "state.safetensors", manifest["files"]["state.safetensors"])
            except (Corrupt, BadInput) as error:
                warnings.warn(f"{error} Going on from the checkpoint before it.", stacklevel=2)
                continue
            return Saved(tensors, {**manifest["values"], "step": manifest["step"]})
        return None

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
        """Remove the checkpoints of a finished run."""
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


def _differences(there: object, here: object, name: str) -> list[str]:
    """ "plan.lr is 0.001 there and 0.01 here" for every value that differs."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        keys = sorted({*there, *here})
        return [
            line for key in keys for line in _differences(there.get(key), here.get(key), f"{name}.{key}" if name else str(key))
        ]
    return [] if there == here else [f"{name} is {there!r} there and {here!r} here"]
