"""actscope verify"""

from pathlib import Path

__all__ = ["verify"]


def verify(folder: Path, *, json: bool = False) -> None:
    """Check every byte of an artifact, or of all in a folder, against its hashes.

    Parameters
    ----------
    folder: an artifact, or a folder of artifacts.
    json: print one JSON document and nothing else.
    """
    from actscope.cli import _common
    from actscope.core import artifact
    from actscope.core.errors import ActscopeError, Corrupt

    found: list[dict] = []
    for path in artifact.under(folder):
        try:
            wrong = artifact.damaged(path)
        except ActscopeError as error:
            wrong = {"manifest.json": str(error)}
        found.append({"path": str(path), "ok": not wrong, "damaged": wrong})
    if json:
        _common.print_json(found)
    else:
        for one in found:
            _common.console().print(f"{'ok      ' if one['ok'] else 'damaged '} {one['path']}", markup=False)
    bad = {f"{one['path']}/{name}": what for one in found for name, what in one["damaged"].items()}
    if bad:
        first = next(iter(bad))
        raise Corrupt(
            f"{len(bad)} of the files are not what their manifests say, such as {first}: {bad[first]}. "
            "`actscope repair FOLDER MODEL CORPUS` makes those of a store again."
        )
