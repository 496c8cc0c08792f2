"""What a capture and a fit will take: time, memory, disk and money, before either is begun.

On this machine both are measured: a little of the very thing is done, then more of it, and the line through both is followed to
the end. What is too large to try is tried smaller, at two sizes, and the line through these is followed too. Accelerators that
are not here are counted in multiplications, at a rate that is given or assumed. Every number says where it is from.
Letters: d width of a site, m latents, k active.
"""

import inspect
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actscope.core import methods
from actscope.core.corpus import Corpus
from actscope.core.errors import BadInput
from actscope.core.site import Port, Site, resolve
from actscope.stores._parts.pieces import TOGETHER
from actscope.stores.disk import DiskStore
from actscope.subjects.blank import blank
from actscope.training import _rates
from actscope.training._rates import Captured, Line
from actscope.training.plan import Plan

__all__ = ["costs"]

_BARE = 450 << 20  # bytes of a process that has imported everything
_WAITING = 4  # units in memory at once: one that runs, those the writer has, the file of one
_STEP = 2.0  # seconds; a longer step is measured on fewer latents
_TFLOPS, _SHARE = 989.0, 0.4  # dense bf16 of an H100 SXM by its data sheet; the share of it that is reached
_PER_MACHINE = 8  # accelerators that share a disk


@dataclass(frozen=True)
class Cost:
    """seconds from start to end; memory: bytes of one process at most; bytes on disk; hours: of all accelerators, or of this
    machine."""

    what: str
    seconds: float
    memory: int
    bytes: int
    hours: float
    price: float | None


@dataclass
class Costs:
    """capture and fit, and what they rest on: (what, value, where it is from)."""

    capture: Cost
    fit: Cost
    rests_on: list[tuple[str, str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Asked:
    """What is to be planned. gpus: None for this machine. tflops, share: of one of them. price: of an hour of one."""

    model: str
    site: str
    tokens: int
    latents: int
    k: int = 32
    method: str = "topk"
    dtype: str = "float32"
    matmul: str = "float32"
    context: int | None = None
    packed: bool = False
    grads: bool = False
    batch: int = 4096
    gpus: int | None = None
    tflops: float | None = None
    share: float | None = None
    price: float | None = None
    disk: float | None = None  # bytes a second

    def __post_init__(self) -> None:
        for name in ("tokens", "latents", "k", "batch", "gpus", "tflops", "share", "disk"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise BadInput(f"{name}={value} was given; expected a number above 0.")


def costs(asked: Asked, corpus: Corpus, *, near: Path | str = ".") -> Costs:
    """Plan a capture of `asked.tokens` rows at one site and a fit of one pass over them.

    corpus: text such as will be captured; its documents' lengths and the tokenizer's speed are measured on it. near: a folder
    on the disk to write to. Raises what `blank` and `capture` raise, UnknownSite, BadInput for numbers that cannot be.
    """
    shape = _Shape(asked)
    rests: list[tuple[str, str, str]] = []
    with _rates.scratch(Path(near)) as folder:
        captured = _measured_capture(asked, shape, corpus, folder, rests)
        rate = asked.disk or _rates.disk(folder)
        rests.append(("writing", f"{rate / 1e6:,.0f} MB/s", "given" if asked.disk else "measured here, hashed and read back"))
        size = int(captured.bytes * (asked.tokens + captured.unit / 2 if asked.tokens > captured.unit else captured.unit))
        if asked.gpus is None:
            seconds = captured.seconds.at(max(asked.tokens, captured.unit))
            fit = _measured_fit(asked, shape, folder, rests)
            store = DiskStore(folder / "store")
            state = _state(asked, shape)
            fit_seconds = fit.at(math.ceil(asked.tokens / asked.batch)) + size / _read_rate(store)
            fit_seconds += fit_seconds / 30 * state / rate
        else:
            seconds, fit_seconds = _counted(asked, shape, corpus, rate, size, rests)
    return Costs(
        _cost(
            asked,
            "capture",
            seconds,
            shape.weights + _working(asked, shape) + int(_WAITING * captured.bytes * captured.unit),
            size,
        ),
        _cost(asked, "fit", fit_seconds, _fit_memory(asked, shape, size), _kept(asked, shape)),
        rests,
    )


class _Shape:
    """A model counted without its weights. needed: the layers up to the site; active: parameters that multiply a token on the
    way there."""

    def __init__(self, asked: Asked):
        whole = blank(asked.model, device="meta", dtype=asked.dtype)
        found = resolve(asked.site, whole.sites, whole.missing)
        if len(found) != 1:
            raise BadInput(f"--site {asked.site} stands for {len(found)} sites; a plan is for one, such as {found[0]}.")
        self.site: Site = found[0]
        self.width = math.prod(size for size in whole.sites[self.site.whole].shape if isinstance(size, int))
        if self.site.part is not None:
            self.width //= next(size for size in whole.sites[self.site.whole].shape if isinstance(size, int))
        config = whole.model.config
        self.layers: int = config.num_hidden_layers
        whole_run = self.site.layer is None or asked.grads  # a gradient comes from the loss, behind all layers
        self.needed = self.layers if whole_run else self.site.layer + 1  # type: ignore[operator]
        self.context = asked.context or whole.context
        self.vocabulary: int = config.vocab_size
        self.hidden: int = config.hidden_size
        named = dict(whole.model.named_parameters())
        self.item = next(iter(named.values())).element_size()
        self.weights = sum(x.numel() for x in named.values()) * self.item
        experts = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None) or 1
        part = (getattr(config, "num_experts_per_tok", None) or experts) / experts
        inside = {name: x for name, x in named.items() if x.dim() > 1 and ".layers." in f".{name}" or ".h." in f".{name}"}
        self.active = (
            sum(x.numel() * (part if ".experts." in name else 1.0) for name, x in inside.items()) * self.needed / self.layers
        )
        self.inside = sum(x.numel() for x in inside.values()) * self.item

    @property
    def flops(self) -> float:
        """Multiplications and additions of one token up to the site."""
        return 2 * self.active + 2 * self.context * self.hidden * self.needed  # half of the attention's square is masked


def _measured_capture(asked: Asked, shape: _Shape, corpus: Corpus, folder: Path, rests: list) -> Captured:
    """On this machine: of the model up to the site where it fits, else of one layer and of two."""
    given = {"context": asked.context, "packed": asked.packed, "grads": asked.grads}
    small = asked.gpus is not None or shape.inside * shape.needed / shape.layers > _memory() / 8

    def take(layers: int, site: Site, out: Path) -> Captured:
        out.mkdir()
        subject = blank(asked.model, layers=layers, dtype=asked.dtype)
        return _rates.of_capture(_reading(subject, shape), corpus, [site], out, **given)

    if not small or shape.needed <= 2:
        found = take(shape.needed, shape.site, folder / "whole")
        (folder / "whole" / "store").rename(folder / "store")
        rests.append(
            ("capture", f"{1 / found.seconds.each:,.0f} tokens/s", "measured here, random weights, layers up to the site")
        )
        return found
    one, two = (take(n, Site(shape.site.kind, n - 1, shape.site.part), folder / str(n)) for n in (1, 2))
    (folder / "2" / "store").rename(folder / "store")
    layer = max(two.seconds.each - one.seconds.each, 0.0)
    each = one.seconds.each + layer * (shape.needed - 1)
    if asked.gpus is None:
        rests.append(("capture", f"{1 / each:,.0f} tokens/s", "measured here on one layer and on two, and continued"))
    return Captured(Line(one.seconds.start, each), two.bytes, two.unit)


def _reading(subject: Any, shape: _Shape) -> Any:
    """The subject, or one that reads with the tokenizer of `pocket` where it has none."""
    return subject if subject.tokenizer is not None else _rates.Relabelled(subject, blank("pocket", layers=1), shape.vocabulary)


def _measured_fit(asked: Asked, shape: _Shape, folder: Path, rests: list) -> Line:
    """On this machine: with all latents where a step takes a second or two, else with fewer, twice, and continued."""
    store, plan = DiskStore(folder / "store"), Plan(batch=asked.batch, matmul=asked.matmul)
    port = Port(shape.site)
    fast = _rates.products("float32")
    rests.append(("products", f"{fast / 1e9:,.0f} Gflop/s fp32", "measured here, 1024 x 1024"))
    fits = int(min(_STEP * fast / (6 * shape.width * asked.batch), _memory() / 8 / (32 * shape.width)))

    def take(latents: int, out: str) -> Line:
        (folder / out).mkdir()
        return _rates.of_fit(_maker(asked, port, shape.width, latents), store, plan, folder / out)

    if asked.latents <= max(fits, 1024):
        line = take(asked.latents, "fit")
        source = f"measured here, {asked.latents:,} latents"
    else:
        half, most = (take(n, f"fit-{n}") for n in (max(fits, 1024) // 2, max(fits, 1024)))
        each = (most.each - half.each) / (max(fits, 1024) - max(fits, 1024) // 2)
        line = Line(most.start, most.each + each * (asked.latents - max(fits, 1024)))
        source = f"measured here with {max(fits, 1024) // 2:,} and {max(fits, 1024):,} latents, and continued"
    rests.append(("fit", f"{line.each:.3g} s a step of {asked.batch:,} rows", source))
    return line


def _maker(asked: Asked, port: Port, width: int, latents: int) -> Callable[[], Any]:
    kind: Any = methods.find("dictionaries", asked.method)
    takes = inspect.signature(kind).parameters
    given = {"k": min(asked.k, latents)} if "k" in takes else {}
    return lambda: kind(reads={port: width}, n_latents=latents, **given)


def _counted(asked: Asked, shape: _Shape, corpus: Corpus, rate: float, size: int, rests: list) -> tuple[float, float]:
    """(seconds of the capture, of the fit) on accelerators that are not here."""
    assert asked.gpus is not None
    speed = (asked.tflops or _TFLOPS) * 1e12 * (asked.share or _SHARE) * asked.gpus
    words = _rates.tokenizer(_reading(blank(asked.model, layers=1), shape), corpus)
    machines = math.ceil(asked.gpus / _PER_MACHINE)
    total = rate * (1 if asked.disk else machines)
    rests += [
        (
            "an accelerator",
            f"{asked.tflops or _TFLOPS:,.0f} Tflop/s",
            "given" if asked.tflops else "assumed: H100 SXM, bf16, data sheet",
        ),
        ("of which reached", f"{asked.share or _SHARE:.0%}", "given" if asked.share else "assumed"),
        ("a token to the site", f"{shape.flops / 1e9:,.3g} Gflop", "counted from the config"),
        ("a row of the fit", f"{6 * shape.width * asked.latents / 1e9:,.3g} Gflop", "counted: encoder, and both its gradients"),
        ("tokenizing", f"{words:,.0f} tokens/s a process", "measured here"),
        (
            "disks",
            f"{machines if not asked.disk else 1}",
            f"assumed: one for {_PER_MACHINE} accelerators" if not asked.disk else "given",
        ),
    ]
    running = asked.tokens * (shape.flops * (3 if asked.grads else 1) / speed + 1 / (words * asked.gpus))
    fitting = asked.tokens * 6 * shape.width * asked.latents / speed
    return max(running, size / total), max(fitting, size / total)


def _cost(asked: Asked, what: str, seconds: float, memory: int, size: int) -> Cost:
    hours = seconds / 3600 * (asked.gpus or 1)
    return Cost(what, seconds, _BARE + memory, size, hours, None if asked.price is None else hours * asked.price)


def _working(asked: Asked, shape: _Shape) -> int:
    """Bytes of one run: what a block holds at once, some eight times the stream's width."""
    return TOGETHER * shape.context * shape.hidden * shape.item * 8 * (shape.needed if asked.grads else 1)


def _state(asked: Asked, shape: _Shape) -> int:
    """Bytes of a checkpoint: encoder, decoder and the two moments of each."""
    return 2 * asked.latents * shape.width * 4 * 3


def _kept(asked: Asked, shape: _Shape) -> int:
    """Bytes on disk of the finished dictionary: encoder and decoder. Two checkpoints stand beside it while it is made."""
    return 2 * asked.latents * shape.width * 4 + asked.latents * 16


def _fit_memory(asked: Asked, shape: _Shape, size: int) -> int:
    held = size if size <= _memory() // 4 or asked.gpus else 1 << 30
    return _state(asked, shape) * 4 // 3 + asked.batch * min(asked.latents, 1 << 16) * 4 + (0 if asked.gpus else held)


def _read_rate(store: DiskStore) -> float:
    """Bytes a second of rows that are read, checked and joined."""
    began = _rates.now()
    for port in store.ports:
        store._whole(f"acts.{port}")
    return sum(part.bytes for part in store.parts) / max(_rates.now() - began, 1e-6)


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
