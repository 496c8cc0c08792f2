"""What is refused about a model's folder before anything in it is opened as a model.

A folder that someone else made may try to read files outside it, to run its own code, or to fill the memory. Names
are checked before the files they name, kinds of file before their contents, headers before tensors, and the memory a
config asks for before any is taken.
"""

import json
import math
import os
import re
import stat
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch

from actscope.core import files
from actscope.core.errors import NotAModel

_READ = (".json", ".safetensors", ".model", ".txt", ".jinja")  # endings that transformers may open
_SETTINGS = (
    "config.json", "tokenizer_config.json", "generation_config.json", "special_tokens_map.json", "added_tokens.json",
    "chat_template.json", "preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json",
)  # fmt: skip
_INDEX = "model.safetensors.index.json"
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,230}\.safetensors")  # of ASCII, so that no letter looks like another
_MAX_SETTINGS = 64 << 20  # bytes of a file of settings or an index
_MAX_HEADER = 100_000_000  # bytes; what safetensors itself allows
_MOST = {"num_labels": 1_000_000}  # counts of which transformers makes a list before anything can be measured
_PARTS = re.compile(r"(layers|layer|blocks|depth|experts)$")  # what has tensors of its own, each
_FEW = 1000  # so many of them are made in seconds, whatever the weights hold
_OWN_ATTENTION = ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation")

_BROKEN = (ValueError, KeyError, TypeError, AttributeError, RecursionError, MemoryError)  # what a header that lies leads to


@dataclass(frozen=True)
class Stored:
    """What the weights hold, read from their headers."""

    tensors: int
    elements: int
    bytes: int


def inspected(folder: Path, weights: Path, shown: str) -> Stored:
    """Look a model's folder over and say what its weights hold. Raises NotAModel for anything in it that would leave it, run
    code or cannot be weights; Corrupt for settings that are not JSON."""
    for place in dict.fromkeys([folder, weights]):
        _check_entries(place, shown)
    if not (folder / "config.json").is_file():
        raise NotAModel(
            f"The folder {folder} has no config.json; expected a transformers folder with config.json and safetensors."
        )
    for name in _SETTINGS:
        if (folder / name).is_file():
            _check_settings(folder / name, shown)
    if (folder / "adapter_config.json").exists():
        raise NotAModel(
            f"{shown} holds an adapter (adapter_config.json), which names another model to load; expected whole weights. "
            "Merge it where you trust it: model.merge_and_unload().save_pretrained(folder)."
        )
    stored = _check_weights(weights, shown)
    _check_counts(_settings(folder / "config.json"), stored, shown)
    return stored


def check_memory(kind: Any, config: Any, dtype: torch.dtype, stored: Stored, shown: str) -> None:
    """Refuse a config that asks for more memory than there is, before any is taken. The model is laid out without its
    numbers, so this costs no memory. Raises NotAModel with both figures."""
    from transformers.initialization import no_init_weights

    with torch.device("meta"), no_init_weights():
        empty = kind(config)
    empty.tie_weights()
    elements = sum(tensor.numel() for tensor in empty.parameters())
    needed, room = elements * dtype.itemsize, memory()
    if needed > room:
        raise NotAModel(
            f"The config of {shown} asks for {elements:,} parameters, {needed / 2**30:,.1f} GiB as {str(dtype)[6:]}, and there "
            f"are {room / 2**30:,.1f} GiB of memory; its weights hold {stored.elements:,}. Check config.json, or take a larger "
            "machine."
        )


def memory() -> int:
    """Bytes of memory that a model could ever have here: of the machine (or what this process may use of it) and of every
    accelerator."""
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 1 << 62
    limit = Path("/sys/fs/cgroup/memory.max")
    told = limit.read_text().strip() if limit.is_file() else ""
    most = min(most, int(told)) if told.isdigit() else most
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return most + sum(torch.cuda.get_device_properties(i).total_memory for i in range(devices))


def _check_entries(folder: Path, shown: str) -> None:
    """Every file that may be read is a plain file, or a link to one that stays inside."""
    places = [folder, folder / "additional_chat_templates"]
    for path in sorted(path for place in places if place.is_dir() for path in place.iterdir()):
        if path.suffix.lower() not in _READ:
            continue
        if path.is_symlink():
            _check_link(path, folder, shown)
        kind = path.stat().st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise NotAModel(f"{path.name!r} of {shown} is a pipe, a socket or a device; expected a plain file. Remove it.")
    if (folder / "additional_chat_templates").is_symlink():
        raise NotAModel(f"'additional_chat_templates' of {shown} is a link; expected a folder of the model. Remove it.")


def _check_link(path: Path, folder: Path, shown: str) -> None:
    """A link may lead to a file of its own folder; in the hub's cache to one of that model's blobs, where downloads lie."""
    if not path.exists():
        raise NotAModel(f"{path.name!r} of {shown} is a link that leads nowhere; get the model again.")
    if not files.stays_inside(path, folder):
        raise NotAModel(
            f"{path.name!r} of {shown} is a link out of the model's folder; expected plain files. If you trust where it leads, "
            "copy the files themselves: cp -rL FOLDER NEW."
        )


def _settings(path: Path) -> dict:
    if path.stat().st_size > _MAX_SETTINGS:
        raise NotAModel(f"{path} is {path.stat().st_size:,} bytes; expected settings of at most {_MAX_SETTINGS:,}.")
    return files.read_json(path)


def _check_settings(path: Path, shown: str) -> None:
    """No setting asks for code or files that the model brings or names."""
    for key, value in _entries(_settings(path)):
        if key == "auto_map" and value:
            raise NotAModel(
                f"{path.name} of {shown} asks to run code that comes with the model (auto_map); such models are refused. If "
                f"transformers has this architecture itself, delete auto_map from a copy of {path.name}."
            )
        if key in _OWN_ATTENTION and any("/" in str(one) for one in (value.values() if isinstance(value, dict) else [value])):
            raise NotAModel(
                f"{path.name} of {shown} asks for a kernel to be fetched and run ({key}: {value!r:.80}); such models are "
                f"refused. Delete {key} from a copy of {path.name}."
            )
        if key in ("transformers_weights", "gguf_file") and value is not None:
            raise NotAModel(
                f"{path.name} of {shown} names the file {value!r:.80} ({key}); expected model.safetensors, or its index."
            )


def _entries(value: object) -> Iterable[tuple[str, object]]:
    """Every key with its value, at any depth."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            yield from one.items()
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def _check_counts(config: Mapping, stored: Stored, shown: str) -> None:
    """Counts that something is made for each of are within what the weights can hold."""
    for key, value in _entries(config):
        if not isinstance(value, int):
            continue
        most = max(_FEW, stored.tensors) if _PARTS.search(key) else _MOST.get(key)
        if most is not None and value > most:
            raise NotAModel(
                f"config.json of {shown} says {key}={value:,}; its weights hold {stored.tensors:,} tensors of "
                f"{stored.elements:,} numbers. Check config.json, or get the model again."
            )


def _check_weights(folder: Path, shown: str) -> Stored:
    index, single = folder / _INDEX, folder / "model.safetensors"
    listed = _listed(index, shown) if index.is_file() else {}
    if not listed and not single.is_file():
        pickled = [path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(pattern)]
        if pickled:
            raise NotAModel(
                f"{shown} has its weights in {pickled[0]}, a pickle, which can run code when opened; expected "
                "model.safetensors. Convert it where you trust it: model.save_pretrained(folder)."
            )
        raise NotAModel(f"The folder {folder} has no weights; expected model.safetensors.")
    found: dict[str, str] = {}
    elements = size = 0
    for name in [single.name] if single.is_file() else sorted(set(listed.values())):
        for tensor, length, width in _header(folder / name, shown):
            if tensor in found:
                raise NotAModel(f"The tensor {tensor!r:.120} of {shown} stands in {found[tensor]} and in {name}; expected one.")
            found[tensor] = name
            elements, size = elements + length, size + width
    wrong = None if single.is_file() else next((tensor for tensor in listed if found.get(tensor) != listed[tensor]), None)
    if wrong is not None:
        raise NotAModel(
            f"{index.name} of {shown} names the tensor {wrong!r:.120}, which is not in {listed[wrong]}; get it again."
        )
    return Stored(len(found), elements, size)


def _listed(index: Path, shown: str) -> dict[str, str]:
    """tensor -> file of an index. Nothing is opened by a name before the name is found good."""
    listed = _settings(index).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise NotAModel(f"{index.name} of {shown} has no weight_map of plain file names; get the model again.")
    there = {path.name for path in index.parent.iterdir() if path.is_file()}
    for name in listed.values():
        if not isinstance(name, str) or not _PLAIN.fullmatch(name):
            raise NotAModel(
                f"{index.name} of {shown} names the file {name!r:.120}; expected plain file names (NAME.safetensors) inside "
                "the folder."
            )
        if name not in there:
            raise NotAModel(f"{index.name} of {shown} names {name}, which is not in {index.parent}; download the model again.")
    return listed


def _header(path: Path, shown: str) -> list[tuple[str, int, int]]:
    """(name, elements, bytes) of every tensor of a safetensors file, whose header is checked whole: its length, one entry a
    name, and offsets without holes or overlaps."""
    try:
        with open(path, "rb") as file:
            size = struct.unpack("<Q", file.read(8))[0]
            if size > min(_MAX_HEADER, os.fstat(file.fileno()).st_size):
                raise ValueError(f"a header of {size:,} bytes")
            header = json.loads(file.read(size), object_pairs_hook=_once)
        with safetensors.safe_open(path, framework="pt"):  # refuses holes, overlaps, overflows and truncation
            pass
        header.pop("__metadata__", None)
        return [
            (name, math.prod(entry["shape"]), entry["data_offsets"][1] - entry["data_offsets"][0])
            for name, entry in header.items()
        ]
    except (*_BROKEN, OSError, struct.error, safetensors.SafetensorError) as error:
        raise NotAModel(
            f"{path.name} of {shown} is no readable safetensors file ({str(error):.120}); get the model again."
        ) from error


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in its header")
    return found
