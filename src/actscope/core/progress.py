"""How long work says how far it is, and how it is asked to stop.

A verb takes `progress`, a function of (done, total, note), and calls it at least once a unit of work. Loops ask
`stop_requested()` between units; when it says so they commit what they have and raise Interrupted.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

Progress = Callable[[int, int, str], None]
_asked = 0


def quiet(done: int, total: int, note: str) -> None:
    """Progress for nobody."""


def stop_requested() -> bool:
    return _asked > 0


@contextlib.contextmanager
def graceful() -> Iterator[None]:
    """Inside, the first Ctrl-C, SIGTERM or SIGUSR1 asks loops to finish their unit and save; a second Ctrl-C stops at once.
    Schedulers and launchers send the others several times."""
    global _asked

    def ask(number: int, frame: object) -> None:
        global _asked
        _asked += 1
        if _asked > 1 and number == signal.SIGINT:
            os._exit(4)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        _asked = 0
        for number, handler in before.items():
            signal.signal(number, handler)
