"""One writer at a time in a folder.

A file `.lock` names its owner: host, process, when that process started. The next writer is refused while the owner
lives, and takes over once the owner is proven dead: no such process on this host since that boot, or an earlier life of
this very Slurm job, which starts again only after all of it has ended. `flock` alone is not enough: on some network
filesystems it succeeds for everyone.
"""

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from actscope.core import files
from actscope.core.errors import BadInput

NAME = ".lock"


@contextlib.contextmanager
def hold(folder: Path | str) -> Iterator[None]:
    """Be the only writer of `folder` inside. Raises BadInput naming the owner while another one lives."""
    folder = Path(folder)
    path = folder / NAME
    me = json.dumps(_identity(os.getpid()) | {"since": time.strftime("%Y-%m-%d %H:%M:%S")}, sort_keys=True).encode()
    with _one_at_a_time(folder):
        _refuse_or_clear(path)
        if not files.create(path, me):
            raise BadInput(f"{folder} was taken by another writer just now; wait for it, or give another --out.")
    try:
        yield
    finally:
        if path.is_file() and path.read_bytes() == me:
            path.unlink(missing_ok=True)


def owner(folder: Path | str) -> dict | None:
    """Who writes `folder` now: {"host", "pid", "since"...}; None when nobody that lives."""
    path = Path(folder) / NAME
    if not path.is_file():
        return None
    said = files.read_json(path)
    return said if _lives(said) else None


def _refuse_or_clear(path: Path) -> None:
    living = owner(path.parent)
    if living is not None:
        here = living.get("host") == socket.gethostname()
        advice = "wait for it, or stop it" if here else f"if it no longer runs, delete {path}"
        raise BadInput(
            f"{path.parent} is being written by process {living.get('pid')} on {living.get('host')} "
            f"since {living.get('since')}; expected one writer. Give another --out, or {advice}."
        )
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """The few lines that look at the lock and take it, one process after another."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _identity(pid: int) -> dict[str, object]:
    """What tells this process from any other, also after a reboot has given its number away again."""
    return {
        "host": socket.gethostname(),
        "pid": pid,
        "boot": _read("/proc/sys/kernel/random/boot_id"),
        "started": _started(pid),
        **({"job": os.environ["SLURM_JOB_ID"], "life": _life()} if "SLURM_JOB_ID" in os.environ else {}),
    }


def _life() -> int:
    """How often Slurm has started this job again."""
    count = os.environ.get("SLURM_RESTART_COUNT", "0")
    return int(count) if count.isdigit() else 0


def _lives(said: dict) -> bool:
    """False only when the owner is proven dead."""
    pid, life = said.get("pid"), said.get("life")
    if "job" in said and said["job"] == os.environ.get("SLURM_JOB_ID") and isinstance(life, int) and life < _life():
        return False
    if said.get("host") != socket.gethostname() or not isinstance(pid, int) or pid < 1:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    now = _identity(pid)
    return now["boot"] == said.get("boot") and now["started"] == said.get("started")


def _started(pid: int) -> str:
    """Clock ticks from boot to the start of a process; "" where the system does not say."""
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()[19] if os.path.exists(f"/proc/{pid}/stat") else ""


def _read(path: str) -> str:
    return Path(path).read_text().strip() if os.path.exists(path) else ""
