"""How fast this machine is, measured in a few seconds: products, the disk, a capture and a fit."""

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from actscope.core import files
from actscope.core.corpus import Corpus
from actscope.core.inputs import Inputs
from actscope.core.site import Site
from actscope.stores.capture import capture
from actscope.training.fit import fit
from actscope.training.plan import Plan

_SECONDS = 6.0  # about how long one measurement may take
_UNITS, _STEPS = 12, 40  # at most, of one


class Line(NamedTuple):
    """What so much work takes: `start` seconds and `each` second for one more."""

    start: float
    each: float

    def at(self, n: int) -> float:
        return self.start + n * self.each


@contextmanager
def scratch(near: Path) -> Iterator[Path]:
    """A folder on the same disk, gone afterwards."""
    here = next(path for path in (near.absolute(), *near.absolute().parents) if path.is_dir())
    folder = Path(tempfile.mkdtemp(prefix=".actscope-plan-", dir=here))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def products(dtype: str, device: str = "cpu", size: int = 1024) -> float:
    """Multiplications and additions a second of a square matrix product, the median of nine."""
    a = torch.randn(size, size, dtype=getattr(torch, dtype), device=device)

    def once() -> None:
        (a @ a).sum().item()

    once()
    return 2 * size**3 / statistics.median(_took(once) for _ in range(9))


def disk(folder: Path, size: int = 32 << 20) -> float:
    """Bytes a second that the one writer makes durable, hashing and reading back included; the median of three."""
    data = bytes(size)
    return size / statistics.median(_took(lambda: files.write_bytes(folder / "probe", data)) for _ in range(3))


def tokenizer(subject: Any, corpus: Corpus, characters: int = 400_000) -> float:
    """Tokens a second of this process's tokenizer."""
    texts, held = [], 0
    for document in corpus.documents():
        texts.append(document.text)
        held += len(document.text)
        if held > characters:
            break
    began = time.perf_counter()
    tokens = sum(int(subject.prepare(texts[i : i + 32]).mask.sum()) for i in range(0, len(texts), 32))
    return tokens / (time.perf_counter() - began)


class Captured(NamedTuple):
    """What a capture takes by the row; bytes of a row, its place and its sequence included; rows of a unit."""

    seconds: Line
    bytes: float
    unit: int


def of_capture(subject: Any, corpus: Corpus, sites: list[Site], folder: Path, **settings: Any) -> Captured:
    """Capture a little, then more, and take the line through both. The last store is left in folder/store."""

    def take(tokens: int, out: Path) -> tuple[float, Any]:
        began = time.perf_counter()
        store = capture(subject, corpus, sites, tokens=tokens, out=out, **settings)
        return time.perf_counter() - began, store

    assert corpus.fingerprint  # the text is read, and the model's weights are hashed, before the clock starts
    assert subject.fingerprint
    took, store = take(1, folder / "first")  # arrays and threads are made here
    unit = len(store)
    if took > 2 * _SECONDS:
        (folder / "first").rename(folder / "store")
        return Captured(Line(0.0, took / unit), _bytes(folder / "store") / unit, unit)
    shorter, some = take(unit + 1, folder / "some")
    n = max(2, min(_UNITS, int(2 * _SECONDS / max(shorter, 1e-3))))
    longer, more = take(len(some) + n * unit, folder / "store")
    if len(more) == len(some):  # there is no more text
        return Captured(Line(0.0, longer / len(more)), _bytes(folder / "store") / len(more), unit)
    each = max(longer - shorter, 0.0) / (len(more) - len(some))
    return Captured(Line(max(shorter - each * len(some), 0.0), each), _bytes(folder / "store") / len(more), unit)


def of_fit(make: Callable[[], Any], store: Any, plan: Plan, folder: Path) -> Line:
    """Seconds by the step: fit a little, then more, and take the line through both."""

    def take(steps: int, out: str) -> float:
        again = Plan(**{**vars(plan), "rows": steps * plan.batch, "every": 10**9})
        return _took(lambda: fit(make(), store, again, out=folder / out))

    take(1, "first")
    shorter = take(2, "some")
    n = max(3, min(_STEPS, int(_SECONDS / max(shorter / 2, 1e-3))))
    longer = take(2 + n, "more")
    each = max(longer - shorter, 0.0) / n
    return Line(max(shorter - 2 * each, 0.0), each)


class Relabelled:
    """A subject that has no tokenizer, or too few tokens for it, reading texts with another's."""

    def __init__(self, subject: Any, reader: Any, vocabulary: int):
        self.subject, self.reader, self.vocabulary = subject, reader, vocabulary

    def prepare(self, raw: Any) -> Inputs:
        inputs = self.reader.prepare(raw)
        return inputs._replace(ids=inputs.ids % self.vocabulary)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.subject, name)


def now() -> float:
    return time.perf_counter()


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("unit-*"))


def _took(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
