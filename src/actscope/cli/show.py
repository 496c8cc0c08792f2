"""actscope show"""

from pathlib import Path

__all__ = ["show"]


def show(folder: Path, *, json: bool = False) -> None:
    """Say what an artifact is, or list those in a folder.

    Args:
        folder: an artifact, or a folder of artifacts.
        json: print one JSON document and nothing else.
    """
    from rich.table import Table

    from actscope.cli import _common
    from actscope.core import artifact

    found = [_facts(path) for path in artifact.under(folder)]
    if json:
        return _common.print_json(found)
    for facts in found:
        table = Table(box=None, show_header=False, pad_edge=False)
        for name, value in facts.items():
            listed = ", ".join(f"{key}={item}" for key, item in value.items()) if isinstance(value, dict) else value
            table.add_row(name, f"{listed:,}" if isinstance(listed, int) else str(listed))
        _common.console().print(table, markup=False)


def _facts(path: Path) -> dict:
    """What the manifest says, without opening the files it names."""
    from actscope.core import artifact, files, lock

    manifest = artifact.read_manifest(path)
    facts: dict = {"path": str(path), "kind": manifest["kind"]}
    if manifest["kind"] == "store":
        settings = manifest["settings"]
        facts["state"] = "finished" if manifest["complete"] else "unfinished; its command goes on when run again"
        facts |= {
            "rows": manifest["rows"],
            "documents": manifest["cursor"] - settings["start"],
            "shards": len(manifest["units"]),
        }
        if apart := sum(unit.get("apart", 0) for unit in manifest["units"]):
            facts["rows set apart"] = apart
        facts["ports"] = dict(settings["ports"])
        facts["settings"] = {key: settings[key] for key in ("context", "packed", "special", "start", "tokens", "threads")}
    elif manifest["kind"] == "dictionary":
        facts |= {"method": manifest["method"], "latents": manifest["n_latents"], "settings": manifest["settings"]}
        facts |= {"reads": dict(manifest["reads"]), "writes": dict(manifest["writes"])}
    elif manifest["kind"] == "pass":
        facts["state"] = "unfinished; its call goes on when made again"
        facts |= {"batches": manifest["pass"]["done"], "settings": manifest["pass"]["settings"]}
    elif isinstance(manifest.get("value"), dict) and (kind := manifest["value"].get("$value")):
        facts["value"] = kind
        if kind == "Latents":
            facts |= {name: manifest["value"][name] for name in ("rows", "dictionary", "store", "seed")}
            facts |= {"settings": manifest["extra"]["pass"]["settings"]} if "pass" in manifest["extra"] else {}
    sizes = [files.safe_join(path, name) for name in manifest["files"]]
    facts["bytes"] = sum(file.stat().st_size for file in sizes if file.is_file())
    facts["content"] = manifest["content"]
    writer = lock.owner(path)
    if writer is not None:
        facts["being written by"] = {key: writer[key] for key in ("pid", "host", "since") if key in writer}
    about = path / "about.json"
    facts["made"] = files.read_json(about) if about.is_file() else {}
    return facts
