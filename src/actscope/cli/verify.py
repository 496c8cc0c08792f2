"""actscope verify"""

from pathlib import Path

__all__ = ["verify"]


def verify(
    folder: Path, *, mixing: bool = False, batch: int = 4096, buffer: int | None = None, seed: int = 0, json: bool = False
) -> None:
    """Check every byte of an artifact, or of all in a folder, against its hashes.

    Args:
        folder: an artifact, or a folder of artifacts.
        mixing: also read every store shuffled and say how well that is mixed, against a full shuffle.
        batch: rows a batch, for mixing.
        buffer: bytes of rows mixed at a time, for mixing; 1 GiB when left out, as training reads.
        seed: of the shuffled pass.
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
        if mixing and not wrong:
            found[-1] |= _mixed(path, batch, buffer, seed)
    if json:
        _common.print_json(found)
    else:
        for one in found:
            _common.console().print(f"{'ok      ' if one['ok'] else 'damaged '} {one['path']}", markup=False)
            if "mixing" in one:
                _common.console().print("         {said}".format(**one["mixing"]), markup=False)
    bad = {f"{one['path']}/{name}": what for one in found for name, what in one["damaged"].items()}
    if bad:
        first = next(iter(bad))
        raise Corrupt(
            f"{len(bad)} of the files are not what their manifests say, such as {first}: {bad[first]}. "
            "`actscope repair FOLDER MODEL CORPUS` makes those of a store again."
        )


def _mixed(path: Path, batch: int, buffer: int | None, seed: int) -> dict:
    """{"mixing": ...} of a finished store, {} of anything else."""
    from dataclasses import asdict

    from actscope.core import artifact
    from actscope.stores.disk import DiskStore
    from actscope.stores.mixing import mixing

    manifest = artifact.read_manifest(path)
    if manifest["kind"] != "store" or not manifest["complete"]:
        return {}
    found = mixing(DiskStore(path, mixing=buffer), size=batch, seed=seed)
    said = (
        f"a batch of {found.size:,} rows holds {found.documents:,.1f} documents, {found.quality:.1%} of a full shuffle's "
        f"{found.of_full:,.1f}; neighbours correlate {found.neighbours:.4f}; batch means differ {found.drift:.2f} times as much"
    )
    return {"mixing": {**asdict(found), "quality": found.quality, "said": said}}
