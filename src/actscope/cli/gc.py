"""actscope gc"""

from pathlib import Path

__all__ = ["gc"]


def gc(folder: Path, *, dry_run: bool = False, json: bool = False) -> None:
    """Delete what killed or replaced writers left in artifacts: nothing that a manifest names, nothing of yours.

    Args:
        folder: an artifact, or a folder of artifacts. One that is being written is refused.
        dry_run: list what would be deleted, and delete nothing.
        json: print one JSON document and nothing else.
    """
    from actscope.cli import _common
    from actscope.core import artifact, lock

    freed: dict[str, int] = {}
    for path in artifact.under(folder):
        with lock.hold(path):
            for file in artifact.garbage(path):
                if not file.name.startswith(f".{lock.NAME}"):
                    freed[str(file)] = file.stat().st_size
                    if not dry_run:
                        file.unlink()
    if json:
        return _common.print_json({"deleted": {} if dry_run else freed, "would_delete": freed if dry_run else {}})
    verb = "would delete" if dry_run else "deleted"
    for name, size in freed.items():
        _common.console().print(f"{verb} {name} ({size:,} bytes)", markup=False)
    _common.console().print(f"{verb} {len(freed)} files, {sum(freed.values()):,} bytes")
