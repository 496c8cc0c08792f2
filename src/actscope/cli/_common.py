"""What verbs share: the console, JSON on stdout, and progress that suits a terminal or a log."""

import json
import os
import sys
import time

from rich.console import Console

from actscope.core.progress import Progress


def speaks() -> bool:
    """Whether this process is the one that says what is done: of those torchrun started, the first."""
    return os.environ.get("RANK", "0") == "0"


def console() -> Console:
    """Standard output. Rich leaves colours out where NO_COLOR is set or where it is no terminal."""
    return Console(highlight=False, quiet=not speaks())


def print_json(value: object) -> None:
    """One JSON document on stdout and nothing else."""
    if speaks():
        sys.stdout.write(json.dumps(value, indent=1, allow_nan=False) + "\n")


def plain_progress(what: str, every: float = 5.0) -> Progress:
    """One plain line on stderr every few seconds: what is being done, how far, and the time left."""
    started = time.monotonic()
    last = started

    def show(done: int, total: int, note: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < every and done < total:
            return
        last = now
        if not speaks():
            return
        left = (now - started) * (total - done) / done if done else 0.0
        sys.stderr.write(f"{what}: {done:,} of {total:,} {note}, {left:.0f} s left\n")
        sys.stderr.flush()

    return show
