"""What `actscope compare` does: capture once, find each method's rate, fit all seeds in one pass, judge."""

import inspect
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actscope.cli import _documents
from actscope.core import files, methods
from actscope.core.dictionary import Dictionary, Learned
from actscope.core.errors import UsageError
from actscope.core.labels import Labels
from actscope.core.progress import Progress
from actscope.core.site import Port, Site
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.reports.comparison import Comparison, Line, Measured, page
from actscope.scores._parts.census import Census
from actscope.scores._parts.seeds import over_seeds
from actscope.scores.dictionary.cross_entropy import cross_entropy
from actscope.scores.dictionary.dead_share import dead_share
from actscope.scores.dictionary.fvu import fvu
from actscope.scores.dictionary.l0 import l0
from actscope.scores.dictionary.truth_recovery import truth_recovery
from actscope.stores.capture import capture
from actscope.subjects.load import load
from actscope.training.plan import Plan
from actscope.training.sweep import sweep

VALIDATION = 0.1  # share of the captured documents that choose the rates
Cell = tuple[str, dict[str, object]]  # a method and its settings
Chosen = tuple[float | None, list[tuple[float, float]]]  # the best rate, and (rate, unexplained on validation rows) of each
LOSS_ROWS = 15_000  # rows of the documents that cross-entropy is measured on


@dataclass(frozen=True)
class Wanted:
    """The flags of `actscope compare`."""

    methods: Sequence[str]
    model: str
    site: str
    write: str | None
    text: Path | None
    tokens: int
    held: int
    rows: int | None
    latents: int
    k: Sequence[int]
    seeds: int
    rates: Sequence[float]
    out: Path
    batch: int

    def __post_init__(self) -> None:
        if not self.methods or self.seeds < 1 or not self.k or not self.rates or min(*self.rates, *self.k) <= 0:
            raise UsageError(
                f"methods={list(self.methods)}, seeds={self.seeds}, k={list(self.k)}, rates={list(self.rates)}: expected at "
                "least one of each, above 0, such as `actscope compare topk pca --k 8 --k 16`."
            )

    @property
    def command(self) -> str:
        flags = [f"--k {k}" for k in self.k] + [f"--site {self.site}", f"--latents {self.latents}", f"--tokens {self.tokens}"]
        if self.text is not None:
            flags.append(f"--text {shlex.quote(str(self.text))}")
        return " ".join(
            ["actscope compare", *self.methods, f"--model {shlex.quote(self.model)}", *flags, f"--seeds {self.seeds}"]
        )

    @property
    def sites(self) -> list[str]:
        return [self.site, *([self.write] if self.write else [])]

    @property
    def cells(self) -> list[Cell]:
        """(method, settings) of every line: a method that takes k has one for each."""
        found = []
        for name in self.methods:
            takes = _takes(name)
            given = {"n_latents": self.latents} if takes["n_latents"].default is inspect.Parameter.empty else {}
            found += [(name, {**given, "k": k}) for k in self.k] if "k" in takes else [(name, given)]
        return found


def plan(wanted: Wanted) -> dict[str, Any]:
    """What `run` would fit, without doing it."""
    lines = [f"{name} {settings}, {wanted.seeds} seeds" for name, settings in wanted.cells]
    return {"would fit": lines, "rates tried": list(wanted.rates), "out": str(wanted.out)}


def run(wanted: Wanted, progress: Callable[[str], Progress]) -> Comparison:
    """Do it, and write comparison.json and comparison.html into `wanted.out`."""
    began, created = time.monotonic(), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    cells = wanted.cells
    subject = load(wanted.model)
    stores = _captured(wanted, subject, progress)
    chosen = _rates(wanted, cells, stores, progress("find rates"))
    named = {f"{_name(cell)} seed={seed}": (number, seed) for number, cell in enumerate(cells) for seed in range(wanted.seeds)}
    fitted: dict[str, Dictionary] = {}
    seconds: dict[str, float] = {}
    for seed in range(wanted.seeds):  # a pass a seed: it draws the order of the rows too
        own = [f"{_name(cell)} seed={seed}" for cell in cells]
        members = {name: _made(cell, wanted, stores.fit.ports, seed) for name, cell in zip(own, cells, strict=True)}
        rates = {name: rate for name, (rate, _) in zip(own, chosen, strict=True) if rate is not None}
        made = sweep(members, stores.fit, _plan(wanted, stores.fit, seed), rates=rates, out=wanted.out / f"seed-{seed}",
                     progress=progress(f"fit seed {seed}"))  # fmt: skip
        fitted |= made
        seconds |= made.seconds
    judged: list[list[dict[str, float]]] = [[] for _ in cells]
    tell = progress("judge")
    for done, (name, (number, seed)) in enumerate(named.items()):
        judged[number].append(_judge(fitted[name], subject, stores, seed) | _took(seconds, name))
        tell(done + 1, len(named), name)
    lines = [
        Line(name, settings, rate, tried, _means(found))
        for (name, settings), (rate, tried), found in zip(cells, chosen, judged, strict=True)
    ]
    lines += _with_gradients(cells, chosen, fitted, stores, wanted.seeds)
    comparison = Comparison(
        command=wanted.command,
        created=created,
        model=subject.name,
        site=wanted.site,
        corpus=stores.corpus,
        rows=len(stores.fit),
        seen=_plan(wanted, stores.fit, 0).rows or len(stores.fit),
        held=len(stores.held),
        latents=wanted.latents,
        seeds=wanted.seeds,
        lines=lines,
        seconds=time.monotonic() - began,
    )
    files.write_json(wanted.out / "comparison.json", comparison.to_json())
    files.write_bytes(wanted.out / "comparison.html", page(comparison).encode())
    return comparison


@dataclass(frozen=True)
class _Stores:
    fit: Store
    validation: Store
    held: Store
    labels: Labels | None
    corpus: str


def _captured(wanted: Wanted, subject: Subject, progress: Callable[[str], Progress]) -> _Stores:
    sites, grads = wanted.sites, _wants_gradients(wanted, subject)
    corpus = _documents.source(wanted.text, wanted.model, 0, subject)
    validation = int(wanted.tokens * VALIDATION)
    rows = wanted.tokens + validation + wanted.held
    parts = _documents.divide(corpus, rows, (wanted.tokens + validation) / rows)
    inner = _documents.divide(parts.fit, rows, 1 / (1 + VALIDATION), salt=b"validation")
    made = {
        name: capture(
            subject, documents, sites, tokens=tokens, grads=grads, out=wanted.out / name, progress=progress(f"read {name}")
        )
        for name, documents, tokens in (
            ("fit", inner.fit, wanted.tokens),
            ("validation", inner.held, validation),
            ("held", parts.held, wanted.held),
        )
    }
    known = _documents.labels(subject, parts.held, made["held"])
    return _Stores(made["fit"], made["validation"], made["held"], known, corpus.name)


def _wants_gradients(wanted: Wanted, subject: Subject) -> bool:
    """Whether a method is trained on gradients. (Of a site that is not there the capture says so.)"""
    sites = [Site.parse(site) for site in wanted.sites]
    if any(site not in subject.sites for site in sites):
        return False
    widths = {Port.parse(site): subject.sites[site].width for site in sites}
    return any("grads" in _made(cell, wanted, widths, 0).needs for cell in wanted.cells)


def _with_gradients(
    cells: Sequence[Cell], chosen: Sequence[Chosen], fitted: Mapping[str, Dictionary], stores: _Stores, seeds: int
) -> list[Line]:
    """One more line for a method that is trained on gradients: judged where it gets them at inference too. (The lines before
    judge every method without.) What the model makes of it is not measured: a spliced run has no gradient yet."""
    found = []
    for cell, (rate, tried) in zip(cells, chosen, strict=True):
        made = [fitted[f"{_name(cell)} seed={seed}"] for seed in range(seeds)]
        if "grads" in made[0].needs:
            measured = [_cheap(one, stores.held, grads=True) for one in made]
            found.append(Line(cell[0], {**cell[1], "inference": "gradient"}, rate, tried, _means(measured)))
    return found


def _rates(wanted: Wanted, cells: Sequence[Cell], stores: _Stores, progress: Progress) -> list[Chosen]:
    """For each cell (best rate, [(rate, unexplained on validation rows)]): every rate in one pass, seed 0."""
    members: dict[str, Dictionary] = {}
    rates: dict[str, float] = {}
    for cell in cells:
        for multiple in wanted.rates:
            one = _made(cell, wanted, stores.fit.ports, 0)
            if isinstance(one, Learned):
                name = f"{_name(cell)} rate={multiple:g}"
                members[name], rates[name] = one, one.rate * multiple
    if members:
        sweep(members, stores.fit, _plan(wanted, stores.fit, 0), rates=rates, out=wanted.out / "rates", progress=progress)
    found = []
    for cell in cells:
        own = [name for name in (f"{_name(cell)} rate={multiple:g}" for multiple in wanted.rates) if name in members]
        tried = [(rates[name], fvu(members[name], stores.validation).value) for name in own]
        found.append((min(tried, key=lambda pair: pair[1])[0] if tried else None, tried))
    return found


def _plan(wanted: Wanted, store: Store, seed: int) -> Plan:
    return Plan(rows=wanted.rows or 3 * len(store), batch=min(wanted.batch, len(store)), seed=seed)


def _made(cell: Cell, wanted: Wanted, widths: Mapping[Port, int], seed: int) -> Dictionary:
    name, settings = cell
    seeded = {"seed": seed} if "seed" in _takes(name) else {}
    read = {Port.parse(wanted.site): widths[Port.parse(wanted.site)]}
    written = {Port.parse(wanted.write): widths[Port.parse(wanted.write)]} if wanted.write else None
    kind: Any = methods.find("dictionaries", name)
    return kind(reads=read, writes=written, **settings, **seeded)


def _takes(name: str) -> Mapping[str, inspect.Parameter]:
    kind: Any = methods.find("dictionaries", name)
    return inspect.signature(kind).parameters


def _name(cell: Cell) -> str:
    return " ".join([cell[0], *(f"{key}={value}" for key, value in cell[1].items())])


def _judge(one: Dictionary, subject: Subject, stores: _Stores, seed: int) -> dict[str, float]:
    some = sorted(set(stores.held.text[1][:LOSS_ROWS, 0].tolist()))
    found = _cheap(one, stores.held)
    found["recovered"] = cross_entropy(one, subject, stores.held, documents=some).value
    if stores.labels is not None:
        found["truth"] = truth_recovery(one, stores.held, stores.labels, seed=seed).value
    return found


def _cheap(one: Dictionary, held: Store, *, grads: bool = False) -> dict[str, float]:
    census = Census.of(one, held, grads=grads)
    return {
        "fvu": fvu(one, held, census=census).value,
        "l0": l0(one, held, census=census).value,
        "dead": dead_share(one, held, census=census).value,
    }


def _took(seconds: Mapping[str, float], name: str) -> dict[str, float]:
    return {"seconds": seconds[name]} if name in seconds else {}


def _means(found: Sequence[Mapping[str, float]]) -> dict[str, Measured]:
    shared = [name for name in found[0] if all(name in one for one in found)]
    return {name: Measured(*over_seeds([one[name] for one in found])) for name in shared}
