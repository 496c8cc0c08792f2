"""A capture in a process of its own, to be killed. It says how far it is over a pipe."""

import json
import os
import sys
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "stores"))

from tiny_subject import OUT, TinySubject, Z

from actscope.core import artifact, files
from actscope.core.errors import ActscopeError
from actscope.core.progress import graceful
from actscope.corpora.texts import texts
from actscope.stores import capture as module

LISTED = [f"{n} " + "some words to read, " * (1 + n % 4) for n in range(120)]


def capture(out: Path | None = None, *, pause: float = 0.0, tell=None):
    """(store, rows reported after each unit)."""
    shown: list[int] = []

    def show(done: int, total: int, note: str) -> None:
        shown.append(done)
        if tell is not None:
            tell(done)

    before, module.UNIT = module.UNIT, 400
    try:
        subject = TinySubject(pause=pause)
        return module.capture(subject, texts(LISTED), [OUT, Z], out=out, threads=1, progress=show), shown
    finally:
        module.UNIT = before


def standing(out: Path) -> set[str]:
    """The units that a manifest or a journal names: what a restart must not run again. All of them are whole."""
    if not (out / "manifest.json").exists():
        return set()
    assert not artifact.damaged(out)
    named = set(artifact.read_manifest(out)["files"])
    for journal in out.glob("journal-*.json"):
        named |= {entry["file"] for _, entry in json.loads(journal.read_text())["units"]}
    assert all(files.hash_file(out / name).startswith(name[12:20]) for name in named)
    return named


def main(out: Path, pause: float, fault: str, pipe: Connection) -> None:
    """Sends "ready", rows after each unit, and at last the content hash or the error's text; exits with its code."""
    os.environ["ACTSCOPE_FAULT"] = fault
    pipe.send("ready")
    try:
        with graceful():
            store, _ = capture(out, pause=pause, tell=pipe.send)
    except ActscopeError as error:
        pipe.send(str(error))
        sys.exit(error.exit_code)
    pipe.send(store.content)
