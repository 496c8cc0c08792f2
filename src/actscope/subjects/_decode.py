"""Two ways to run what is generated: each token once, from a cache, or everything again at each step.

Letters: b rows, n rows still run, p slots of the prompts, v vocabulary.
"""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from actscope.core.errors import BadInput
from actscope.core.inputs import Inputs, Run
from actscope.core.intervention import Intervention
from actscope.core.site import Site
from actscope.core.subject import Subject
from actscope.subjects._hooked import HookedSubject
from actscope.subjects._pieces import MAPS, Piece, Pieced

LOGITS = Site("logits")
Where = Literal["prompt", "generated", "both"]


@dataclass(frozen=True)
class Asked:
    """What is read and written, and at which tokens."""

    read: tuple[Site, ...] = ()
    read_where: Where = "both"
    write: tuple[Intervention, ...] = ()
    write_where: Where = "both"

    def reads(self, part: str) -> tuple[Site, ...]:
        return self.read if self.read_where in (part, "both") else ()

    def writes(self, part: str) -> tuple[Intervention, ...]:
        return self.write if self.write_where in (part, "both") else ()


class Decoding(abc.ABC):
    """Rows of one batch. `acts` holds, by row and site, what was read, piece after piece."""

    def __init__(self, subject: Subject, inputs: Inputs, asked: Asked):
        self.subject, self.inputs, self.asked = subject, inputs, asked
        ids = inputs.ids
        assert ids is not None, "prompts are ids"
        self.ids = ids
        self.mask = torch.ones_like(ids, dtype=torch.bool) if inputs.mask is None else inputs.mask
        self.lengths = self.mask.sum(1).tolist()
        self.starts = self.mask.long().argmax(1).tolist()
        self.rows = list(range(len(ids)))
        self.acts: list[dict[Site, list[Tensor]]] = [{} for _ in self.rows]
        self.valid: list[dict[Site, list[Tensor]]] = [{} for _ in self.rows]

    @abc.abstractmethod
    def prompt(self) -> Tensor:
        """Run the prompts; the logits [b v] after each."""

    @abc.abstractmethod
    def go_on(self, rows: list[int], ids: Tensor, logits: bool) -> Tensor | None:
        """Run one more token of some rows, of those run before; the logits [n v] after each, where they are asked for."""

    def _run(self, inputs: Inputs, part: str, write: Sequence[Intervention], logits: bool, **more: Any) -> Run:
        read = self.asked.reads(part)
        if not read:
            return self.subject.run(inputs, write=write, **more)
        if not logits:
            return self.subject.run(inputs, read=read, write=write, **more)
        if LOGITS in self.subject.sites:
            return self.subject.run(inputs, read=(*read, LOGITS), write=write, **more)
        run = self.subject.run(inputs, read=read, write=write, **more)  # a module whose logits are no site
        return run._replace(logits=self.subject.run(inputs, write=write, **more).logits)

    def _keep(self, run: Run, part: str, index: int, row: int, at: slice, keys: Sequence[slice]) -> None:
        """Keep what one row's piece is: `index` its row in the run, `at` its tokens, `keys` all it may attend to."""
        for site in self.asked.reads(part):
            x = run.acts[site][index]
            x = torch.cat([x[..., at, each] for each in keys], dim=-1) if site.kind in MAPS else x[at]
            self.acts[row].setdefault(site, []).append(x)
            if site in run.valid:
                self.valid[row].setdefault(site, []).append(run.valid[site][index, at])


class Cached(Decoding):
    """Each token is run once. Rows that have finished leave the batch, and their keys the cache."""

    def prompt(self) -> Tensor:
        ends = self.inputs.mask is None or bool(self.mask[:, -1].all())
        self._own = {"decoding": True} if isinstance(self.subject, HookedSubject) else {}
        run = self._run(self.inputs, "prompt", self.asked.writes("prompt"), True, cache=True, **(self._own if ends else {}))
        self.cache, self.steps = run.cache, 0
        for row in self.rows if self.asked.reads("prompt") else ():
            real = slice(self.starts[row], self.starts[row] + self.lengths[row])
            self._keep(run, "prompt", row, row, real, [real])
        logits = _logits(run, self.subject)
        if ends:
            return logits[:, -1]
        last = [start + length - 1 for start, length in zip(self.starts, self.lengths, strict=True)]
        return logits[self.rows, last]

    def go_on(self, rows: list[int], ids: Tensor, logits: bool) -> Tensor | None:
        self.steps += 1
        if len(rows) != len(self.rows):
            place = {row: index for index, row in enumerate(self.rows)}
            self.cache = self.cache.select(torch.tensor([place[row] for row in rows]))
            self.rows = rows
        inputs, write = Inputs(ids=ids[:, None]), self.asked.writes("generated")
        if write and len(rows) < len(self.ids):
            piece = (self._piece(rows, ids),)
            write = tuple(Pieced(item, piece) for item in write)
        run = self._run(inputs, "generated", write, logits, cache=self.cache, **self._own)
        self.cache = run.cache
        width = self.ids.shape[1]
        for index, row in enumerate(rows) if self.asked.reads("generated") else ():
            keys = [slice(self.starts[row], self.starts[row] + self.lengths[row]), slice(width, width + self.steps)]
            self._keep(run, "generated", index, row, slice(0, 1), keys)
        return _logits(run, self.subject)[:, -1] if logits else None

    def _piece(self, rows: list[int], ids: Tensor) -> Piece:
        device = _device(self.subject)
        live = torch.tensor(rows, device=device)
        mask = torch.zeros(len(self.ids), 1, dtype=torch.bool, device=device)
        mask[live] = True
        now = torch.zeros(len(self.ids), 1, dtype=torch.long, device=device)
        now[live] = ids.to(device)[:, None]
        positions = torch.tensor(self.lengths, device=device)[:, None] + self.steps - 1
        return Piece(self.steps, live, torch.zeros_like(now[live]), None, Inputs(ids=now), positions, mask)


class Rerun(Decoding):
    """Everything is run again at each step, without a cache: rows begin at column 0 and are padded on the right.

    Interventions are called as with a cache, on the prompts and then on each token; so that they see the same rows, finished
    ones are run on where there are any.
    """

    def prompt(self) -> Tensor:
        self.new: list[list[int]] = [[] for _ in self.rows]
        self._real = [ids[mask].tolist() for ids, mask in zip(self.ids, self.mask, strict=True)]
        run = self._again("prompt", self.rows, True)
        for row in self.rows if self.asked.reads("prompt") else ():
            real = slice(0, self.lengths[row])
            self._keep(run, "prompt", row, row, real, [real])
        return self._last(run, self.rows)

    def go_on(self, rows: list[int], ids: Tensor, logits: bool) -> Tensor | None:
        for row, number in zip(rows, ids.tolist(), strict=True):
            self.new[row].append(number)
        if not self.asked.write:
            self.rows = rows
        run = self._again("generated", self.rows, logits)
        for row in rows if self.asked.reads("generated") else ():
            end = self.lengths[row] + len(self.new[row])
            self._keep(run, "generated", self.rows.index(row), row, slice(end - 1, end), [slice(0, end)])
        return self._last(run, rows) if logits else None

    def _again(self, part: str, rows: list[int], logits: bool) -> Run:
        sequences = [self._real[row] + self.new[row] for row in rows]
        longest = max(map(len, sequences))
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        for index, sequence in enumerate(sequences):
            ids[index, : len(sequence)] = torch.tensor(sequence)
        mask = torch.arange(longest) < torch.tensor([len(sequence) for sequence in sequences])[:, None]
        inputs = Inputs(ids=ids, mask=None if bool(mask.all()) else mask)
        write: tuple[Intervention, ...] = ()
        if self.asked.write:
            pieces = tuple(self._piece(step) for step in self._steps())
            write = tuple(Pieced(item, pieces) for item in self.asked.write)
        return self._run(inputs, part, write, logits)

    def _steps(self) -> range:
        last = max(map(len, self.new))
        return range(0 if self.asked.writes("prompt") else 1, (last if self.asked.writes("generated") else 0) + 1)

    def _piece(self, step: int) -> Piece:
        """Of all rows, as they lie with a cache: the prompts in their slots, then one slot a token."""
        device, width = _device(self.subject), self.ids.shape[1]
        starts, lengths = (torch.tensor(numbers, device=device)[:, None] for numbers in (self.starts, self.lengths))
        slots = torch.arange(width + step, device=device).expand(len(self.ids), -1)
        columns = torch.where(slots < width, slots - starts, lengths + slots - width)
        absent = (slots < width) & ((columns < 0) | (columns >= lengths))
        columns = columns.masked_fill(absent | (slots - width >= self._counts(device)), -1)
        rows = torch.arange(len(self.ids), device=device)
        if step == 0:
            mask = self.mask.to(device)
            inputs = Inputs(ids=self.ids.to(device), mask=None if self.inputs.mask is None else mask)
            return Piece(0, rows, columns, columns, inputs, (slots - starts).clamp(min=0), mask)
        now, mask = columns[:, -1:], columns[:, -1:] >= 0
        ids = torch.tensor([[new[step - 1] if step <= len(new) else 0] for new in self.new], device=device)
        return Piece(step, rows, now, columns, Inputs(ids=ids), lengths + step - 1, mask)

    def _counts(self, device: torch.device) -> Tensor:
        return torch.tensor([[len(new)] for new in self.new], device=device)

    def _last(self, run: Run, rows: list[int]) -> Tensor:
        ends = [self.lengths[row] + len(self.new[row]) - 1 for row in rows]
        place = range(len(rows)) if rows == self.rows else [self.rows.index(row) for row in rows]
        return _logits(run, self.subject)[list(place), ends]


def _device(subject: Subject) -> torch.device:
    return getattr(subject, "device", torch.device("cpu"))


def _logits(run: Run, subject: Subject) -> Tensor:
    if run.logits is None or run.logits.dim() != 3:
        shape = None if run.logits is None else tuple(run.logits.shape)
        raise BadInput(f"{subject.name} gives {shape} where logits [b t vocabulary] are needed, so nothing can be generated.")
    return run.logits
