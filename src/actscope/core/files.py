"""The one way this package writes a file.

Write to a temporary name in the same folder, set the mode the umask asks for, fsync, read back and compare, rename,
fsync the folder. Readers never see half a file, and what was reported as written survives a kill or a power cut.
(`safetensors.save_file` alone neither syncs nor respects the umask.) Every other way to write is refused by lint.
"""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import signal
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from actscope.core.errors import BadInput, Corrupt, DiskFull

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_MAX_JSON = 256 << 20
_hits: dict[str, int] = {}


def fault_point(name: str) -> None:
    """A named place where tests make the process die or the disk fill: ACTSCOPE_FAULT="name:kill:3" or "name:full:1"."""
    spec = os.environ.get("ACTSCOPE_FAULT")
    if not spec:
        return
    wanted, what, at = spec.split(":")
    if wanted != name:
        return
    _hits[name] = _hits.get(name, 0) + 1
    if _hits[name] == int(at):
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.ENOSPC, "No space left on device (injected)")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bytes(path: Path | str, data: bytes) -> str:
    """Publish `data` at `path`, whole or not at all, and return its SHA-256.

    Raises DiskFull when there is no room (what stood at `path` before still stands), BadInput when the folder cannot
    be written, Corrupt when the bytes read back are not the bytes written.
    """
    path = Path(path)
    temporary = path.parent / f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fault_point("file.before")
        digest = _publish(path, temporary, data)
        fault_point("file.after")
        return digest
    except OSError as error:
        with contextlib.suppress(OSError):  # where no file can be, there is none to remove
            temporary.unlink(missing_ok=True)
        if error.errno in _NO_ROOM:
            raise DiskFull(
                f"No room to write {path.name} ({len(data):,} bytes) in {path.parent}: {error.strerror}. What was "
                "committed before is intact; free some space and run the same command again."
            ) from error
        raise BadInput(f"Cannot write {path}: {error.strerror}. Give another folder with --out.") from error


def _publish(path: Path, temporary: Path, data: bytes) -> str:
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # the kernel applies the umask
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        fault_point("file.written")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    digest = sha256(data)
    if hash_file(temporary) != digest:
        temporary.unlink()
        raise Corrupt(f"{path} read back differently from what was written: the disk or its driver is failing.")
    fault_point("file.synced")
    os.replace(temporary, path)
    fault_point("file.renamed")
    sync_folder(path.parent)
    return digest


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path | str, text: str) -> str:
    return write_bytes(path, text.encode())


def write_json(path: Path | str, value: object) -> str:
    """Publish `value` as JSON with sorted keys, so that equal values have equal bytes. NaN is refused."""
    return write_bytes(path, json_bytes(value))


def json_bytes(value: object) -> bytes:
    """What `write_json` writes."""
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def tensor_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Named tensors as the bytes of a safetensors file; equal tensors give equal bytes."""
    return safetensors.torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())})


def write_tensors(path: Path | str, tensors: Mapping[str, Tensor]) -> str:
    """Publish named tensors as safetensors and return the file's SHA-256."""
    return write_bytes(path, tensor_bytes(tensors))


def create(path: Path | str, data: bytes) -> bool:
    """Publish `data` at `path` unless something stands there already; says whether it did."""
    path = Path(path)
    temporary = path.parent / f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}"
    write_bytes(temporary, data)
    try:
        os.link(temporary, path)  # unlike a rename, never replaces
        return True
    except FileExistsError:
        return False
    finally:
        temporary.unlink()


def read_json(path: Path | str) -> dict:
    """A JSON object from a file. Raises BadInput when there is none, Corrupt when it is not a JSON object."""
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"There is no file {path}; expected a JSON file there.")
    if path.stat().st_size > _MAX_JSON:
        raise Corrupt(f"{path} is {path.stat().st_size:,} bytes; expected a JSON file of at most {_MAX_JSON:,}.")
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"{path} is not readable JSON ({error}); expected a JSON object. Make it or get it again.") from error
    if not isinstance(value, dict):
        raise Corrupt(f"{path} holds a {type(value).__name__}; expected a JSON object.")
    return value


def read_tensors(
    path: Path | str, digest: str | None = None, again: str = "run the command that made it again"
) -> dict[str, Tensor]:
    """Named tensors from a safetensors file; with `digest`, the file's SHA-256 is checked first (else Corrupt). again: what to
    do about a damaged one."""
    path = Path(path)
    if not path.is_file():
        raise Corrupt(f"{path} is missing although a manifest names it; {again}.")
    if digest is not None and hash_file(path) != digest:
        raise Corrupt(f"{path} is not the file its manifest describes (SHA-256 differs); {again}.")
    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise Corrupt(f"{path} is not a readable safetensors file ({error}).") from error


def read_slices(path: Path | str, digest: str, rows: Mapping[str, tuple[int, int]]) -> dict[str, Tensor]:
    """Rows (from, to) of some tensors of a file whose SHA-256 is checked first (else Corrupt); only these are read."""
    path = Path(path)
    if not path.is_file() or hash_file(path) != digest:
        raise Corrupt(f"{path} is missing or not the file its manifest describes (SHA-256 differs).")
    with safetensors.safe_open(path, framework="pt") as file:
        whole = {name for name, span in rows.items() if file.get_slice(name).get_shape()[:1] in ([], [span[1] - span[0]])}
        parts = {name: file.get_slice(name)[slice(*span)] for name, span in rows.items() if name not in whole}
        return {**parts, **{name: file.get_tensor(name) for name in whole}}


def safe_join(root: Path | str, name: str) -> Path:
    """`root / name` for a name that came from data: refuses anything that would leave `root`."""
    root = Path(root).resolve()
    bad = not name or "\0" in name or "\\" in name or Path(name).is_absolute() or ".." in Path(name).parts
    path = (root / name).resolve() if not bad else root
    if bad or (path != root and root not in path.parents) or any(len(part.encode()) > 255 for part in path.parts):
        raise BadInput(f"The name {name!r} leaves the folder {root}; expected a plain file name inside it.")
    return path


def stays_inside(path: Path, folder: Path) -> bool:
    """Whether a file of `folder`, links followed, is one of the folder's own; in the hub's cache, where links are how
    downloads lie, one of the blobs beside its snapshots. False for links to nothing and in a circle."""
    inside = folder.resolve()
    allowed = [inside]
    snapshots = next((parent for parent in (inside, *inside.parents) if parent.parent.name == "snapshots"), None)
    if snapshots is not None:
        allowed.append(snapshots.parent.parent / "blobs")
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: links in a circle, before Python 3.13
        return False
    return any(place in target.parents for place in allowed)


def set_aside(path: Path) -> Path:
    """Rename a damaged file so that no reader meets it again; returns where it is now. Nothing is deleted."""
    aside = path.parent / f".corrupt-{path.name}-{secrets.token_hex(4)}"
    os.replace(path, aside)
    sync_folder(path.parent)
    return aside


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files that a killed writer left in `folder`. Only its one writer may (see core.lock)."""
    for path in folder.glob(".*.tmp-*"):
        path.unlink(missing_ok=True)
