"""The main job, end to end: a model and text in, features whose meaning has been caused out.

load -> read (two disjoint sets of documents) -> fit a dictionary on the first -> on the second, in three splits:
propose and select rules, report how well they detect, intervene -> report.json, report.html
"""

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from actscope.cli import _documents, _findings
from actscope.core import files
from actscope.core.artifact import save
from actscope.core.dictionary import Dictionary
from actscope.core.errors import UnknownSite
from actscope.core.explanation import Explanation
from actscope.core.labels import Labels
from actscope.core.progress import Progress
from actscope.core.site import Port, Site, resolve
from actscope.core.store import Store, split_documents
from actscope.core.subject import Subject
from actscope.dictionaries.identity import Identity
from actscope.dictionaries.pca import PCA
from actscope.dictionaries.random import Random
from actscope.dictionaries.topk import TopK
from actscope.explainers.rules import rules
from actscope.reports import document
from actscope.reports.document import Baseline, Report, ScoreLine
from actscope.reports.html import html
from actscope.reports.terminal import Stages
from actscope.scores._parts.census import Census
from actscope.scores.dictionary.cross_entropy import cross_entropy
from actscope.scores.dictionary.dead_share import dead_share
from actscope.scores.dictionary.fvu import fvu
from actscope.scores.dictionary.l0 import l0
from actscope.scores.dictionary.truth_recovery import truth_recovery
from actscope.scores.explanation.effect import effect
from actscope.stores.capture import capture
from actscope.subjects.load import load
from actscope.training.fit import fit
from actscope.training.plan import Plan

_DEFINITIONS = {
    "fvu": "share of the variance that the dictionary misses, on documents it was not fitted on",
    "l0": "latents active on a token",
    "dead_share": "share of latents that never fire on these documents",
    "cross_entropy": "share of the next-token loss at stake here that survives when the dictionary's output is put in place",
}
STAGES = (
    "load the model",
    "read activations",
    "fit a dictionary",
    "score it",
    "explain latents",
    "intervene",
    "write the report",
)


@dataclass(frozen=True)
class Job:
    """What to do. fit_rows, held_rows: the most tokens read to fit and to judge; a small corpus gives fewer."""

    model: str = "pocket"
    text: Path | None = None
    site: str | None = None
    out: Path = Path("runs/demo")
    seed: int = 0
    device: str = "cpu"
    dtype: str = "float32"
    fit_rows: int = 300_000
    held_rows: int = 240_000
    scored_rows: int = 60_000  # the most that truth recovery sees
    passes: int = 3
    expansion: int = 16  # latents per dimension
    k: int = 16
    lr: float | None = None  # the method's own
    candidates: int = 250  # latents that rules are looked for
    features: int = 40
    positions: int = 64

    @property
    def command(self) -> str:
        plain, flags = Job(), []
        for name in ("text", "model", "site", "out", "seed", "device", "dtype"):
            if (value := getattr(self, name)) != getattr(plain, name):
                flags.append(f"--{name} {shlex.quote(str(value))}")
        return " ".join(["actscope demo", *flags])


def plan(job: Job) -> dict[str, object]:
    """What `run` would do, without doing it. The model and the text are opened, so that what is missing is said now."""
    subject = load(job.model, device=job.device, dtype=job.dtype)
    corpus = _documents.source(job.text, job.model, job.seed, subject)
    site = _site(job, subject)
    return {
        "model": f"{subject.name}, {_parameters(subject):,} parameters",
        "site": str(site),
        "text": corpus.name,
        "tokens": f"up to {job.fit_rows:,} to fit and {job.held_rows:,} to judge",
        "dictionary": f"topk, {job.expansion * subject.sites[site].width:,} latents, {job.k} active a token",
        "features": f"up to {job.features} explained and intervened on",
        "writes": f"{job.out / 'report.json'}, {job.out / 'report.html'}",
    }


def run(job: Job, stages: Stages) -> Report:
    """Do it, and write report.json and report.html into `job.out`.

    Raises NotAModel, EmptyCorpus, UnknownSite, NotFinite, DiskFull, Interrupted and BadInput, each naming what to type next.
    """
    began = time.monotonic()
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    files.write_json(job.out / "job.json", {"command": job.command, "created": created})  # a bad folder is told now
    with stages.stage("load the model"):
        subject = load(job.model, device=job.device, dtype=job.dtype)
        site = _site(job, subject)
        corpus = _documents.source(job.text, job.model, job.seed, subject)
    with stages.stage("read activations") as progress:
        parts = _documents.divide(corpus, job.fit_rows + job.held_rows, job.fit_rows / (job.fit_rows + job.held_rows))
        store = capture(subject, parts.fit, [site], tokens=job.fit_rows, progress=progress)
        held = capture(subject, parts.held, [site, *_neurons(subject, site)], tokens=job.held_rows, progress=progress)
    with stages.stage("fit a dictionary") as progress:
        width = subject.sites[site].width
        learned = TopK(reads={Port(site): width}, n_latents=job.expansion * width, k=min(job.k, width), seed=job.seed)
        rows = job.passes * len(store)
        batch = min(2048, len(store))
        fit(learned, store, Plan(rows=rows, batch=batch, lr=job.lr, seed=job.seed, device=job.device), progress=progress)
        learned.to("cpu")
    with stages.stage("score it") as progress:
        labels = _documents.labels(subject, parts.held, held)
        lines, baselines, live = _scored(learned, subject, store, held, labels, job, progress)
    splits = split_documents(held, 3, seed=job.seed)
    with stages.stage("explain latents") as progress:
        latents = _candidates(learned, held, job)
        explained = rules(learned, subject, held, latents=latents, seed=job.seed, progress=progress)
    with stages.stage("intervene") as progress:
        caused = effect(
            _chosen(explained, job.features), learned, subject, held, select=splits[1], report=splits[2],
            positions=job.positions, seed=job.seed, progress=progress,
        )  # fmt: skip
    with stages.stage("write the report"):
        seen = _findings.Seen.of(learned, subject, held, splits[2], labels)
        report = Report(
            title=f"What {subject.name} has at {site}",
            created=created,
            command=job.command,
            subject=_subject_line(subject, width),
            site=str(site),
            corpus=document.CorpusLine(corpus.name, len(store.documents) + len(held.documents), len(store) + len(held)),
            dictionary=document.DictionaryLine("topk", learned.n_latents, min(job.k, width), rows, dict(learned.settings)),
            seconds=0.0,
            tried=document.Tried(learned.n_latents, live, len(explained), len(caused)),
            splits=document.Splits(*map(len, splits)),
            features=_findings.features(caused, learned, subject, seen, seed=job.seed),
            scores=lines,
            baselines=baselines,
        )
    report = replace(report, stages=stages.seconds, seconds=time.monotonic() - began)
    save(learned, job.out / "dictionary", command=job.command)
    save(caused, job.out / "explanations", command=job.command)
    document.write(report, job.out / "report.json")
    files.write_text(job.out / "report.html", html(report))
    return report


def next_steps(job: Job) -> list[tuple[str, str]]:
    """(command, what it does) to type after the job."""
    again = [] if job.text else [("actscope demo --text FILE", "the same on a text of your own")]
    return [
        (f"open {shlex.quote(str(job.out / 'report.html'))}", "every feature with its contexts, effects and controls"),
        *again,
        (f"actscope sites {shlex.quote(job.model)}", "the places this model can be read and changed at; then --site"),
    ]


def _site(job: Job, subject: Subject) -> Site:
    """The site asked for, or the residual stream after the middle layer. Raises UnknownSite where no token has a vector."""
    if job.site is not None:
        [site] = resolve([job.site], subject.sites, subject.missing)
        if subject.sites[site.whole].width < 2 or site == Site("logits"):
            raise UnknownSite(f"{site} has no vector for each token to find features in; try layers.1.resid_post.")
        return site
    streams = sorted((site for site in subject.sites if site.kind == "resid_post"), key=lambda site: site.layer or 0)
    if not streams:
        raise UnknownSite(f"{subject.name} has no residual stream; name a place with --site (`actscope sites` lists them).")
    return streams[(len(streams) - 1) // 2]


def _neurons(subject: Subject, site: Site) -> list[Site]:
    """The neurons of the site's layer, which the dictionary's latents are compared with; none where it has no layer."""
    neurons = Site("mlp_post", site.layer, stack=site.stack)
    return [neurons] if neurons in subject.sites and neurons != site.whole else []


def _parameters(subject: Subject) -> int:
    return sum(tensor.numel() for tensor in subject.weights().values())


def _subject_line(subject: Subject, width: int) -> document.SubjectLine:
    layers = 1 + max((site.layer for site in subject.sites if site.layer is not None), default=0)
    return document.SubjectLine(subject.name, _parameters(subject), layers, width, subject.fingerprint)


def _scored(
    dictionary: Dictionary, subject: Subject, store: Store, held: Store, labels: Labels | None, job: Job, progress: Progress
) -> tuple[tuple[ScoreLine, ...], tuple[Baseline, ...], int]:
    """The dictionary's scores on held-out documents, truth recovery beside its baselines, and how many latents are live.

    Cross-entropy, four runs of the whole model, and truth recovery, a search over every latent, take the first documents.
    """
    some, more = _first(held, job.scored_rows // 4), _first(held, job.scored_rows)
    census = Census.of(dictionary, held)
    scores = [
        fvu(dictionary, held, census=census, seed=job.seed),
        l0(dictionary, held, census=census, seed=job.seed),
        dead_share(dictionary, held, census=census),
        cross_entropy(dictionary, subject, held, documents=some, seed=job.seed),
    ]
    lines = tuple(
        ScoreLine(one.name, one.value, one.unit, one.interval, one.control, _DEFINITIONS.get(one.name, "")) for one in scores
    )
    live = int(census.fired.sum())
    if labels is None:
        return lines, (), live
    plain = Plan(rows=min(len(store), 100_000), batch=4096, seed=job.seed)
    others: list[tuple[str, Dictionary]] = [
        *(("neurons", Identity(reads={Port(one): held.ports[Port(one)]})) for one in _neurons(subject, dictionary.read.site)),
        ("pca", fit(PCA(reads=dictionary.reads), store, plain)),
        ("random", fit(Random(reads=dictionary.reads, n_latents=dictionary.n_latents, seed=job.seed), store, plain)),
    ]
    found = []
    half = len(more) // 2
    for number, (name, one) in enumerate([("dictionary", dictionary), *others]):
        recovered = truth_recovery(one, held, labels, choose=more[:half], test=more[half:], seed=job.seed)
        found.append(Baseline(name, recovered.value, recovered.interval))
        progress(number + 1, len(others) + 1, f"truth recovered by {name}")
    return lines, tuple(found), live


def _first(store: Store, rows: int) -> list[int]:
    """The first documents that hold about so many rows."""
    return sorted(set(store.text[1][:rows, 0].tolist()))


def _candidates(dictionary: Dictionary, store: Store, job: Job, contexts: int = 200) -> list[int]:
    """A seeded draw of the latents that have contexts enough in each split to be judged."""
    parts = split_documents(store, 3, seed=job.seed)
    split = torch.zeros(max(store.documents) + 1, dtype=torch.long)
    for number, part in enumerate(parts):
        split[part] = number
    counts = torch.zeros(3, dictionary.n_latents, dtype=torch.long)
    with torch.no_grad():
        for batch in store.batches(dictionary.reads, 8192):
            codes = dictionary.encode(batch.acts)
            rows = codes.row[codes.value > 0]
            key = split[batch.where[rows, 0]] * dictionary.n_latents + codes.index[codes.value > 0]
            counts += torch.bincount(key, minlength=3 * dictionary.n_latents).view(3, -1)
    enough = (counts.min(0).values >= contexts).nonzero()[:, 0]
    order = torch.randperm(len(enough), generator=torch.Generator().manual_seed(job.seed))
    return sorted(enough[order[: job.candidates]].tolist())


def _chosen(explained: Sequence[Explanation], most: int) -> list[Explanation]:
    """The explanations that hold best on the select split, one for each meaning."""
    found: dict[str, Explanation] = {}
    for explanation in explained:
        found.setdefault(explanation.text, explanation)
    return list(found.values())[:most]
