"""What a store's manifest says, written and read in one place."""

from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor

from actscope.core import files
from actscope.core.errors import Corrupt
from actscope.core.site import Port
from actscope.stores._parts.order import Part


def named(number: int, part: Part, tensors: Mapping[str, Tensor]) -> tuple[dict[str, object], bytes]:
    """A unit's entry, its file named after its content, and the bytes of that file."""
    data = files.tensor_bytes(tensors)
    digest = files.sha256(data)
    entry = {
        "file": f"unit-{number:06d}-{digest[:8]}.safetensors",
        "sha256": digest,
        "rows": part.rows,
        "bytes": part.bytes,
        "documents": [part.first, part.next],
        **({"apart": part.apart} if part.apart else {}),
    }
    return entry, data


def listed(
    settings: Mapping[str, object], entries: list[dict], *, complete: bool, ahead: Mapping[int, dict] = MappingProxyType({})
) -> dict[str, object]:
    """The manifest of a store with these units. The cursor is the document the next unit begins with. ahead: units by number
    that stand already while some before them are missing; a complete store has none."""
    assert not (complete and ahead)
    return {
        "kind": "store",
        "settings": settings,
        "units": [_unhashed(entry) for entry in entries],
        "files": {entry["file"]: entry["sha256"] for entry in [*entries, *ahead.values()]},
        **({"ahead": [[number, _unhashed(entry)] for number, entry in sorted(ahead.items())]} if ahead else {}),
        "rows": sum(entry["rows"] for entry in entries),
        "cursor": entries[-1]["documents"][1] if entries else settings["start"],
        "complete": complete,
    }


def _unhashed(entry: Mapping) -> dict:
    return {key: value for key, value in entry.items() if key != "sha256"}


def hashed(manifest: Mapping) -> tuple[list[dict], dict[int, dict]]:
    """(entries, those ahead) of a manifest that `listed` made."""

    def whole(unit: dict) -> dict:
        return {**unit, "sha256": manifest["files"][unit["file"]]}

    return list(map(whole, manifest["units"])), {number: whole(unit) for number, unit in manifest.get("ahead", [])}


def part_of(entry: Mapping) -> Part:
    first, following = entry["documents"]
    return Part(entry["rows"], entry["bytes"], first, following, entry.get("apart", 0))


def described(settings: Mapping) -> tuple[dict[Port, int], dict[str, str]]:
    """(ports, subjects) of a store with these settings. Raises Corrupt when they are not a store's."""
    try:
        return {Port.parse(name): width for name, width in settings["ports"]}, dict(settings["subjects"])
    except (KeyError, TypeError, ValueError) as error:
        raise Corrupt(f"The manifest's settings are not a store's ({error!r}); capture again.") from error


def measured(tensors: Mapping[str, Tensor], first: int, following: int) -> Part:
    """What is known of a unit once it has run. Bytes are those of its rows."""
    size = sum(x.numel() * x.element_size() for name, x in tensors.items() if name.startswith(("acts.", "scale.", "grads.")))
    return Part(len(tensors["where"]), size, first, following, len(tensors.get("apart.where", ())))
