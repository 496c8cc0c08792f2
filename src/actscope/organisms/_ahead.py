"""Batches made ahead of time by a second process, so that training does not wait for them."""

import multiprocessing
import queue
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from actscope.core.errors import ActscopeError
from actscope.organisms._mix import Mix
from actscope.organisms._model import Rows

_AHEAD = 8  # batches


class Ahead:
    """The same batches as `mix` gives, in the same order."""

    def __init__(self, mix: Mix):
        self.mix = mix

    @property
    def identity(self) -> Mapping[str, object]:
        return self.mix.identity

    def batches(self, size: int, *, seed: int, start: int) -> Iterator[Rows]:
        """Rows without end, from batch number `start` on."""
        context = multiprocessing.get_context("spawn")
        made: Any = context.Queue(_AHEAD)
        worker = context.Process(target=_fill, args=(self.mix, size, seed, start, made), daemon=True)
        worker.start()
        try:
            while True:
                yield Rows(*map(torch.from_numpy, _next(made, worker)))
        finally:
            worker.terminate()


def _next(made: Any, worker: Any) -> Any:
    while True:
        try:
            return made.get(timeout=5)
        except queue.Empty:
            if not worker.is_alive():
                raise ActscopeError(f"The process that makes batches ended with exit code {worker.exitcode}.") from None


def _fill(mix: Mix, size: int, seed: int, start: int, made: Any) -> None:
    torch.set_num_threads(1)
    for rows in mix.batches(size, seed=seed, start=start):
        made.put(tuple(value.numpy() for value in rows))
