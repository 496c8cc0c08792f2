"""What verbs share: the console, JSON on stdout, and progress that suits a terminal or a log."""

import json
import os
import sys
import time
from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from actscope.core.errors import UsageError
from actscope.core.plain import plain
from actscope.core.progress import Progress


class Plain(Console):
    """A console on which no text that comes from data, such as a file's name, can move the cursor or recolour the screen."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for part in super().render(renderable, options):
            yield part if part.control else Segment(_plain(part.text), part.style)


def _plain(text: str) -> str:
    return "\n".join(map(plain, text.split("\n")))


def speaks() -> bool:
    """Whether this process is the one that says what is done: of those torchrun started, the first."""
    return os.environ.get("RANK", "0") == "0"


def own_device(device: str) -> str:
    """The device of this process: of those that torchrun started on a machine each takes one of its accelerators."""
    local = os.environ.get("LOCAL_RANK") if "WORLD_SIZE" in os.environ else None
    if local is not None and device == "auto" and os.environ.get("LOCAL_WORLD_SIZE", "1") != "1":
        raise UsageError("--device auto takes all accelerators of a machine; start one process on each: --nproc-per-node 1.")
    return f"cuda:{local}" if local is not None and device == "cuda" else device


def console() -> Console:
    """Standard output. Rich leaves colours out where NO_COLOR is set or where it is no terminal."""
    return Plain(highlight=False, quiet=not speaks())


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
