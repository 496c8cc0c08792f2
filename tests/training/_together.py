"""Processes as torchrun starts them, forked from a server that has imported everything: each costs milliseconds.

The environment is torchrun's own, its store included, which stands in the caller as it does in torchrun's agent.
"""

import multiprocessing
import os
import queue
import signal
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import torch
from torch.distributed import TCPStore

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(  # of all that fork: where they run in one session, one server is theirs
    [
        "cyclopts",
        "rich.console",
        "tests.faults.test_kill_fit",
        "tests.faults.test_kill_together",
        "tests.faults.test_kill_shared_capture",
        "tests.faults.test_damage",
        "tests.training.test_shared_work",
    ]
)
LONGEST = 240.0  # seconds after which a test gives up on its processes


class Run:
    """`work(*given)` in `size` processes. faults: rank -> ACTSCOPE_FAULT there."""

    def __init__(self, size: int, work: Callable[..., object], *given: object, faults: Mapping[int, str] | None = None):
        self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=60))
        self.said: Any = SERVER.Queue()
        self.children = [
            SERVER.Process(
                target=_child, args=(rank, size, self.store.port, (faults or {}).get(rank, ""), self.said, work, given)
            )
            for rank in range(size)
        ]
        for child in self.children:
            child.start()

    def kill(self, rank: int, number: int = signal.SIGKILL) -> None:
        if self.children[rank].is_alive():
            os.kill(self.children[rank].pid or 0, number)

    def codes(self, within: float = LONGEST) -> list[int | None]:
        """Exit codes by rank; None for those that still run after so many seconds, which are then killed."""
        end = time.monotonic() + within
        for child in self.children:
            child.join(max(0.0, end - time.monotonic()))
        codes = [child.exitcode for child in self.children]
        for rank in range(len(codes)):
            self.kill(rank)
        return codes

    def results(self) -> list[Any]:
        """What `work` returned, by rank."""
        found: dict[int, Any] = {}
        end = time.monotonic() + LONGEST
        while len(found) < len(self.children) and time.monotonic() < end:
            try:
                rank, result = self.said.get(timeout=0.5)
                found[rank] = result
            except queue.Empty:
                assert all(child.exitcode in (None, 0) for child in self.children), self.codes(5)
        assert self.codes() == [0] * len(self.children)
        return [found[rank] for rank in range(len(self.children))]


def _child(rank: int, size: int, port: int, fault: str, said: Any, work: Callable[..., object], given: tuple) -> None:
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in own.items()})
    os.environ.update(TORCHELASTIC_USE_AGENT_STORE="True", TORCHELASTIC_RESTART_COUNT="0", ACTSCOPE_FAULT=fault)
    if size == 1:
        del os.environ["WORLD_SIZE"]
    torch.set_num_threads(1)
    said.put((rank, work(*given)))
    said.close()
    said.join_thread()
