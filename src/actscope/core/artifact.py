"""Saving and opening: an artifact is a folder with `manifest.json` and safetensors files.

The manifest is the commit: it is written last, names every file with its SHA-256, and readers trust only what it names.
The content hash covers file hashes and settings only; when, where and by which version stand in `about.json`.
Methods are saved under bare names, never import paths, and nothing is ever pickled.
"""

import dataclasses
import importlib
import json
import platform
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor

from actscope.core import files, methods, probe
from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput, Corrupt
from actscope.core.site import Port

FORMAT = 1
_MODEST = 1 << 28  # numbers that a dictionary may have without having stored them: directions drawn anew, say
_AGAIN = "A store's is made again by `actscope repair FOLDER MODEL CORPUS`, any other by the command that made it."
_VALUES = (
    "site", "corpus", "labels", "predicate", "intervention", "change", "task", "score", "explanation", "reproduction",
    "latents",
)  # fmt: skip


def save(thing: object, path: Path | str, **extra: object) -> str:
    """Save a dictionary, a Change, a Score, an Explanation, or lists of these; returns the content hash.

    extra: JSON values to keep in the manifest under "extra". Raises BadInput for anything that cannot be saved by name,
    such as a bare function inside a Change, and when `path` holds something else already.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise BadInput(f"{path} is a file; expected a folder to save into, new or empty.")
    if path.is_dir() and any(path.iterdir()) and not (path / "manifest.json").exists():
        raise BadInput(f"The folder {path} holds other things; expected a new or empty folder, or an artifact to replace.")
    tensors: dict[str, Tensor] = {}
    if isinstance(thing, Dictionary):
        manifest = {"kind": "dictionary", **_describe(thing)}
        tensors = {**thing.state_dict(), **probe.tensors(thing)}
    else:
        manifest = {"kind": "values", "value": pack(thing, tensors)}
    hashes = {}
    if tensors:
        digest = files.sha256(json.dumps(manifest, sort_keys=True).encode())[:8]
        hashes[f"tensors-{digest}.safetensors"] = ""
        name = next(iter(hashes))
        hashes[name] = files.write_tensors(path / name, tensors)
    return commit(path, {**manifest, "files": hashes, "extra": extra})


def commit(path: Path | str, manifest: Mapping[str, object], **aside: object) -> str:
    """Write the manifest with its content hash, then the side file. The files it names must stand already. aside: what the
    side file says too."""
    path = Path(path)
    content = content_hash(manifest)
    files.write_json(path / "manifest.json", {**manifest, "format": FORMAT, "content": content})
    about = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": platform.machine(),
        "torch": torch.__version__,
    }
    files.write_json(path / "about.json", {**about, "python": platform.python_version(), "actscope": _version(), **aside})
    return content


def content_hash(manifest: Mapping[str, object]) -> str:
    """SHA-256 over everything in the manifest but its format and its own hash."""
    kept = {key: value for key, value in manifest.items() if key not in ("format", "content")}
    return files.sha256(json.dumps(kept, sort_keys=True, allow_nan=False).encode())


def read_manifest(path: Path | str) -> dict:
    """A verified manifest. Raises BadInput for no artifact, Corrupt when it was altered or is of a newer format."""
    path = Path(path)
    if not (path / "manifest.json").is_file():
        raise BadInput(f"{path} is not a saved artifact: it has no manifest.json. `actscope show DIR` lists those in a folder.")
    try:
        manifest = files.read_json(path / "manifest.json")
    except Corrupt as error:
        raise Corrupt(f"{error} {_AGAIN}") from error
    kind, sound = manifest.get("format"), manifest.get("content") == content_hash(manifest)
    if sound and isinstance(kind, int) and kind > FORMAT:
        raise Corrupt(f"{path} has format {kind}; this actscope reads up to {FORMAT}. Install a newer actscope.")
    if not sound or kind != FORMAT or (path / "manifest.json").read_bytes() != files.json_bytes(manifest):
        raise Corrupt(f"{path / 'manifest.json'} was altered: its content hash does not match. {_AGAIN}")
    return manifest


def open(path: Path | str) -> object:
    """What was saved: a Dictionary, a store, the values, or a sweep's members by name.

    Every file is checked against its hash, a dictionary against the codes it gave. Raises Corrupt when either differs.
    """
    path = Path(path)
    manifest = read_manifest(path)
    try:
        return _opened(path, manifest)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, RuntimeError, RecursionError, MemoryError) as error:
        raise Corrupt(
            f"{path / 'manifest.json'} says what this version cannot read ({type(error).__name__}: {str(error):.120}); get it "
            "again, or open it with the version it was saved by (about.json)."
        ) from error


def _opened(path: Path, manifest: dict) -> object:
    if manifest["kind"] in ("fit", "pass"):
        raise BadInput(
            f"{path} holds a {manifest['kind']} that is not finished; run the command that began it again and it goes on."
        )
    if manifest["kind"] in ("checkpoint", "trained"):
        raise BadInput(f"{path} holds a {manifest['kind']} state, which only the command that made it can use.")
    if manifest["kind"] == "store":
        return methods.find("stores", "disk")(path)  # type: ignore[operator]
    if manifest["kind"] == "sweep":
        members = {name: files.safe_join(path, name) for name in manifest["members"]}
        if path.resolve() in members.values():
            raise Corrupt(f"{path} names itself among its members; run the command that made it again.")
        return {name: open(member) for name, member in members.items()}
    tensors: dict[str, Tensor] = {}
    for name, digest in manifest["files"].items():
        tensors.update(files.read_tensors(files.safe_join(path, name), digest))
    if manifest["kind"] == "dictionary":
        _check_size(path, manifest, sum(tensor.numel() for tensor in tensors.values()))
        return _rebuild(path, manifest, tensors)
    if manifest["kind"] != "values":
        raise BadInput(
            f"{path} holds a {str(manifest['kind']):.40}, which is not opened by itself; `actscope show {path}` tells."
        )
    return unpack(manifest["value"], tensors)


def under(folder: Path | str) -> list[Path]:
    """The artifacts in a folder and below it, itself included. Raises BadInput when there is none."""
    folder = Path(folder)
    found = sorted(path.parent for path in folder.rglob("manifest.json")) if folder.is_dir() else []
    if not found:
        raise BadInput(f"{folder} holds no artifact; expected a folder with a manifest.json in it or below.")
    return found


def damaged(path: Path | str) -> dict[str, str]:
    """The files of an artifact that are not what its manifest says -> what is wrong. Reads every byte."""
    path = Path(path)
    wrong = {}
    for name, digest in read_manifest(path)["files"].items():
        file = files.safe_join(path, name)
        if not file.is_file():
            wrong[name] = "missing"
        elif files.hash_file(file) != digest:
            wrong[name] = "its SHA-256 differs"
    return wrong


def garbage(path: Path | str) -> list[Path]:
    """What an artifact's folder holds of ours that its manifest does not name: files of killed writers and of versions
    replaced, damaged files set aside. Never anything that actscope did not write."""
    path = Path(path)
    named = set(read_manifest(path)["files"])
    patterns = (".*.tmp-*", ".corrupt-*", "journal-*.json", "unit-*.safetensors", "tensors-*.safetensors")
    return sorted(file for pattern in patterns for file in path.glob(pattern) if file.name not in named)


def _describe(dictionary: Dictionary) -> dict:
    return {
        "method": methods.name_of("dictionaries", dictionary),
        "settings": dictionary.settings,
        "reads": [[str(port), width] for port, width in dictionary.reads.items()],
        "writes": [[str(port), width] for port, width in dictionary.writes.items()],
        "n_latents": dictionary.n_latents,
        "subject": dictionary.subject,
    }


def _check_size(path: Path, manifest: dict, held: int) -> None:
    """A dictionary is made before its tensors are put into it: one that its tensors cannot fill is refused before that."""
    asked = manifest["n_latents"] * sum(width for _, width in [*manifest["reads"], *manifest["writes"]])
    if asked > max(_MODEST, 8 * held):
        raise Corrupt(
            f"{path} says {manifest['n_latents']:,} latents, {asked:,} numbers; its tensors hold {held:,}. Get it again."
        )


def _rebuild(path: Path, manifest: dict, tensors: Mapping[str, Tensor]) -> Dictionary:
    method = methods.find("dictionaries", manifest["method"])
    reads = {Port.parse(name): width for name, width in manifest["reads"]}
    writes = {Port.parse(name): width for name, width in manifest["writes"]}
    dictionary = method(reads=reads, writes=writes, n_latents=manifest["n_latents"], **manifest["settings"])  # type: ignore[operator]
    dictionary.load_state_dict(probe.restore(dictionary, tensors))
    dictionary.subject = manifest["subject"]
    if wrong := probe.mismatch(dictionary.eval(), tensors):
        raise Corrupt(
            f"{path}: {wrong}. Its weights were folded, transposed or rounded since, or this version of {manifest['method']} "
            "computes something else; fit it again, or open it with the version it was saved by (about.json)."
        )
    return dictionary


def pack(value: object, tensors: dict[str, Tensor]) -> object:
    """`value` as plain JSON; its tensors go into `tensors` under numbered names. Raises BadInput naming what cannot."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        tensors[name := f"t{len(tensors)}"] = value
        return {"$tensor": name}
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and type(value) is _values().get(type(value).__name__):
        fields = {field.name: pack(getattr(value, field.name), tensors) for field in dataclasses.fields(value)}
        return {"$value": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return {"$map": [[pack(key, tensors), pack(item, tensors)] for key, item in value.items()]}
    if isinstance(value, tuple | list):
        return {"$tuple" if isinstance(value, tuple) else "$list": [pack(item, tensors) for item in value]}
    raise BadInput(
        f"A {type(value).__name__} cannot be saved ({value!r:.80}); expected numbers, strings, sites, tensors "
        "and actscope's own values."
    )


def unpack(packed: object, tensors: Mapping[str, Tensor]) -> object:
    """The inverse of `pack`. Raises Corrupt for names this version does not know."""
    if not isinstance(packed, dict):
        return packed
    if "$tensor" in packed:
        return tensors[packed["$tensor"]]
    if "$map" in packed:
        return {unpack(key, tensors): unpack(item, tensors) for key, item in packed["$map"]}
    if "$list" in packed:
        return [unpack(item, tensors) for item in packed["$list"]]
    if "$tuple" in packed:
        return tuple(unpack(item, tensors) for item in packed["$tuple"])
    kind = _values().get(packed.get("$value", ""))
    if kind is None:
        raise Corrupt(f"The artifact holds a value of unknown kind {packed.get('$value')!r}; install a newer actscope.")
    return kind(**{name: unpack(item, tensors) for name, item in packed.items() if name != "$value"})


def _values() -> dict[str, type]:
    """The value types of core, by name."""
    found: dict[str, type] = {}
    for name in _VALUES:
        module = importlib.import_module(f"actscope.core.{name}")
        for kind in vars(module).values():
            if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__module__ == module.__name__:
                found[kind.__name__] = kind
    return found


def _version() -> str:
    try:
        return version("actscope")
    except PackageNotFoundError:
        return "source"
