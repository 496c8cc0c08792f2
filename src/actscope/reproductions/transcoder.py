"""Transcoders are faithful, and circuits can be read off their weights. Dunefsky, Chlenski and Nanda 2024, "Transcoders find
interpretable LLM feature circuits" (arXiv:2406.11944). What needs no circuit of a language model is measured here.

    1. On pocket, at the two MLPs whose output matters most: fit a transcoder, and a TopK autoencoder of the same size and k on
       the same MLP's output, each at the best of the same learning rates, chosen on text of its own.
    2. Put each in the MLP's place on other documents: cross-entropy lost, in nats a token. Control: a transcoder fitted to
       inputs and outputs of different tokens, and the MLP's mean output.
    3. A model of two MLPs in a row that compute known sparse booleans: conjunctions of two features each, then of two of those
       (_parts/booleans.py). Fit a transcoder to each.
    4. For every conjunction find the latent that says it best (F1, any threshold). Weight edges into it: its encoder's
       direction times the atoms of the latents found for what may be its parts, or times the features' own directions.
    5. A planted pair (part, conjunction) is recovered when it is among the conjunction's two largest edges. Baseline: neurons
       in place of latents. Controls: transcoders not trained, and the same edges against pairs of other conjunctions.

Letters: n rows, d width, c conjunctions, m columns.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from actscope.core.dictionary import Dictionary
from actscope.core.progress import Progress, quiet
from actscope.core.reproduction import Reproduction
from actscope.core.site import Port, Site
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.dictionaries.topk import TopK
from actscope.dictionaries.transcoder import Transcoder
from actscope.organisms.grammar import grammar
from actscope.reproductions._parts.booleans import SIZES, Booleans, Level, Rows, booleans
from actscope.reproductions._parts.planted import store_of
from actscope.reproductions._parts.seeds import gathered, means
from actscope.scores._parts.columns import Columns
from actscope.scores._parts.detectors import best_detectors, f1
from actscope.scores._parts.seeds import over_seeds
from actscope.scores.dictionary.cross_entropy import cross_entropy
from actscope.stores.capture import capture
from actscope.subjects.load import load
from actscope.training.plan import Plan
from actscope.training.sweep import sweep

__all__ = ["transcoder"]

CLAIM = (
    "At the same number of active latents a transcoder in an MLP's place loses no more cross-entropy than an autoencoder of "
    "the MLP's output, and the largest weight edges between transcoders recover at least 90% of planted feature pairs."
)
BAR = 0.9
RATES = (0.005, 0.015, 0.05)
LAYERS = (0, 3)  # of pocket: the mean in place of the MLP's output costs 4.4 and 0.5 nats, in the others less
SITES = tuple(Port.parse(f"layers.{number}.{kind}") for number, kind in ((0, "mlp_in"), (0, "mlp_out"), (1, "mlp_out")))
TUNING = 1000  # seed of the text and the dictionaries that rates are chosen with


def transcoder(
    *,
    seeds: Sequence[int] = (0, 1, 2),
    tokens: int = 60_000,
    rows: int = 300_000,
    latents: int = 1024,
    k: int = 16,
    judged: int = 120,
    boolean_rows: int = 20_000,
    boolean_seen: int = 300_000,
    steps: int = 2500,
    tried: Sequence[float] = RATES,
    full: bool = False,
    progress: Progress = quiet,
) -> Reproduction:
    """Faithfulness of transcoders, and circuits read off their weights (Dunefsky et al. 2024, arXiv:2406.11944).

    seeds: of text, dictionaries and the boolean model. tokens: captured; rows: seen in training; latents, k: of every
    dictionary on pocket; judged: documents they are judged on, at most. boolean_rows: of the boolean model,
    to fit on and as many to judge on; boolean_seen: rows seen in training; steps: in which that model is trained;
    tried: learning rates. full: five seeds, three times the rows. holds: in every seed the pairs recovered reach their bar
    and beat the neurons', and over seeds (95%, Student's t) the transcoder loses no more cross-entropy than the autoencoder.
    """
    began = time.monotonic()
    if full:
        seeds, rows, boolean_seen = tuple(range(5)), 3 * rows, 3 * boolean_seen
    subject = load("pocket")
    progress(0, len(seeds) + 1, "learning rates")
    size = {"tokens": tokens, "rows": rows, "latents": latents, "k": k, "judged": judged}
    rates = _rates(subject, tried, **size)
    found: list[dict[str, float]] = []
    for number, seed in enumerate(seeds):
        progress(number + 1, len(seeds) + 1, f"seed {seed}")
        found.append({**_lost(subject, rates, seed, **size), **_pairs(seed, boolean_rows, boolean_seen, steps)})
    progress(len(seeds) + 1, len(seeds) + 1, "seeds")
    figures = gathered(found)
    figures |= {f"rate of {name}": (rate,) * len(found) for name, rate in rates.items()}
    mean = means(figures)
    pairs, neurons = figures["pairs recovered by transcoders"], figures["pairs recovered by neurons"]
    saved = [sae - ours for ours, sae in zip(figures["lost by transcoder"], figures["lost by autoencoder"], strict=True)]
    low = over_seeds(saved)[1]
    holds = min(pairs) >= BAR and all(a > b for a, b in zip(pairs, neurons, strict=True))
    holds = holds and min(saved) >= 0 and (low is None or low[0] >= 0)
    return Reproduction(
        "transcoder", CLAIM, mean["lost by transcoder"], mean["lost by autoencoder"], mean["lost by shuffled transcoder"],
        "nats lost a token", tuple(seeds), holds, time.monotonic() - began, figures,
        {"subject": subject.fingerprint, "corpus": grammar(seeds[0], 100_000).fingerprint},
    )  # fmt: skip


def _members(layer: int, seed: int, latents: int, k: int) -> dict[str, Dictionary]:
    before, after, width = f"layers.{layer}.mlp_in", f"layers.{layer}.mlp_out", 128
    return {
        "transcoder": Transcoder(reads={before: width}, writes={after: width}, n_latents=latents, k=k, seed=seed),
        "autoencoder": TopK(reads={after: width}, n_latents=latents, k=k, seed=seed),
    }


def _texts(subject: Subject, seed: int, tokens: int) -> tuple[Store, Store]:
    """(what is fitted, what is judged): documents of two seeds."""
    sites = [Site(kind, layer) for layer in LAYERS for kind in ("mlp_in", "mlp_out")]
    return (
        capture(subject, grammar(2 * seed, 100_000), sites, tokens=tokens),
        capture(subject, grammar(2 * seed + 1, 100_000, split="test"), sites, tokens=10_000),
    )


def _rates(
    subject: Subject, tried: Sequence[float], *, tokens: int, rows: int, latents: int, k: int, judged: int
) -> dict[str, float]:
    """Step 1: of each method and layer the rate that loses least on text of its own."""
    if len(tried) == 1:
        return {f"{name} {layer}": tried[0] for layer in LAYERS for name in _members(layer, TUNING, latents, k)}
    store, other = _texts(subject, TUNING, tokens)
    documents = sorted(other.documents)[:judged]
    members, rates = {}, {}
    for layer in LAYERS:
        for rate in tried:
            for name, one in _members(layer, TUNING, latents, k).items():
                members[f"{name} {layer} {rate}"], rates[f"{name} {layer} {rate}"] = one, rate
    fitted = sweep(members, store, Plan(rows=rows, batch=1024, seed=TUNING), rates=rates)
    spliced = {name: cross_entropy(one, subject, other, documents=documents).parts["spliced"] for name, one in fitted.items()}
    best = {}
    for which in dict.fromkeys(name.rsplit(" ", 1)[0] for name in spliced):
        best[which] = min(tried, key=lambda rate: spliced[f"{which} {rate}"])
    return best


def _lost(
    subject: Subject, rates: dict[str, float], seed: int, *, tokens: int, rows: int, latents: int, k: int, judged: int
) -> dict[str, float]:
    """Step 2, by layer and their mean."""
    store, other = _texts(subject, seed, tokens)
    members = {f"{name} {layer}": one for layer in LAYERS for name, one in _members(layer, seed, latents, k).items()}
    fitted: dict[str, Dictionary] = dict(sweep(members, store, Plan(rows=rows, batch=1024, seed=seed), rates=rates))
    controls = {f"{name} {layer}": one for layer in LAYERS for name, one in _members(layer, seed, latents, k).items()}
    controls = {name: one for name, one in controls.items() if name.startswith("transcoder")}
    shuffled = sweep(controls, _shuffled(store, seed), Plan(rows=rows // 4, batch=1024, seed=seed), rates=rates)
    fitted |= {f"shuffled {name}": one for name, one in shuffled.items()}
    documents = sorted(other.documents)[:judged]
    found: dict[str, float] = {}
    for name, one in fitted.items():
        score = cross_entropy(one, subject, other, documents=documents)
        found[f"lost by {name}"] = score.parts["spliced"] - score.parts["clean"]
        found[f"active {name}"] = _active(one, other)
        found[f"lost by mean {name[-1]}"] = score.parts["mean"] - score.parts["clean"]
    for name in ("transcoder", "autoencoder", "shuffled transcoder", "mean"):
        found[f"lost by {name}"] = sum(found[f"lost by {name} {layer}"] for layer in LAYERS) / len(LAYERS)
    return found


def _shuffled(store: Store, seed: int) -> Store:
    """Outputs beside the inputs of other rows."""
    batch = store.rows(torch.arange(len(store)), list(store.ports))
    order = torch.randperm(len(store), generator=torch.Generator().manual_seed(seed))
    acts = {port: x[order] if port.site.kind == "mlp_out" else x for port, x in batch.acts.items()}
    return store_of(acts, name=store.subjects[""])


@torch.no_grad()
def _active(one: Dictionary, store: Store) -> float:
    """Latents active a row."""
    codes = one.encode(store.rows(torch.arange(len(store)), list(one.reads)).acts)
    return len(codes.index) / len(codes)


@dataclass(frozen=True)
class _Columns:
    """What an MLP's latents or neurons say, and their weights."""

    values: Float[Tensor, "n m"]
    reads: Float[Tensor, "m d"]
    writes: Float[Tensor, "m d"]


def _latents(one: Transcoder, x: Float[Tensor, "n d"]) -> _Columns:
    width = x.shape[1]
    reads = one.preacts(torch.eye(width)) - one.preacts(torch.zeros(1, width))
    return _Columns(one.encode(x).dense(), reads.T, one.atoms[one.write])


def _neurons(level: Level, x: Float[Tensor, "n d"]) -> _Columns:
    return _Columns(level.neurons(x), level.first, level.second.T)


def _pairs(seed: int, n: int, seen: int, steps: int) -> dict[str, float]:
    """Steps 3 to 5."""
    model = booleans(seed=seed, steps=steps)
    store = store_of(dict(zip(SITES, model.rows(n, seed=10 * seed + 1).x, strict=True)), name=f"booleans {seed}")
    fitted = sweep(_two(seed), store, Plan(rows=seen, batch=1024, lr=0.03, seed=seed))
    begun = _two(seed)
    for one in begun.values():
        one.begin(next(store.batches(SITES, 1024, seed=seed)))
    with torch.no_grad():
        rows = model.rows(n, seed=10 * seed + 2)
        ways = {
            "transcoders": [_latents(one, x) for one, x in zip(fitted.values(), rows.x, strict=False)],  # type: ignore[arg-type]
            "neurons": [_neurons(level, x) for level, x in zip(model.levels, rows.x, strict=False)],
            "transcoders not trained": [_latents(one.eval(), x) for one, x in zip(begun.values(), rows.x, strict=False)],
        }
        found: dict[str, float] = {}
        for name, columns in ways.items():
            edges, found[f"F1 of {name}"] = _edges(model, rows, columns)
            for number, hit in enumerate(_hits(model, edges)):
                found[f"pairs recovered by {name} {number}"] = float(hit.float().mean())
            found[f"pairs recovered by {name}"] = _share(_hits(model, edges))
            if name == "transcoders":
                found["pairs of other conjunctions recovered"] = _share(_hits(model, edges, by=1))
        for number, level in enumerate(model.levels):
            wanted = rows.holds[number + 1].float() @ level.writes
            left = (rows.x[number + 1] - wanted).square().sum() / (wanted - wanted.mean(0)).square().sum()
            found[f"not computed by MLP {number}"] = float(left)
    return found


def _two(seed: int) -> dict[str, Transcoder]:
    """One for each MLP of the boolean model."""
    return {
        str(number): Transcoder(
            reads={SITES[number]: SIZES["d"]},
            writes={SITES[number + 1]: SIZES["d"]},
            n_latents=256,
            k=6,
            seed=seed + 10 * number,
        )
        for number in (0, 1)
    }


def _edges(model: Booleans, rows: Rows, columns: Sequence[_Columns]) -> tuple[list[Float[Tensor, "_ _"]], float]:
    """Step 4: (of each level the weight from every possible part to every conjunction, the mean F1 of the columns found)."""
    edges, f1s = [], []
    into = model.levels[0].reads
    for number, one in enumerate(columns):
        holds = rows.holds[number + 1]
        among = Columns(torch.zeros(len(holds), 2, dtype=torch.long), one.values.shape[1], dense=one.values)
        found = best_detectors(among, holds.T, candidates=8)
        column = torch.tensor([each.column for each in found])
        sign = torch.tensor([float(each.sign) for each in found])
        said = torch.stack([each.says(one.values[:, each.column]) for each in found], 1)
        f1s.append(f1((said & holds).sum(0), said.sum(0), holds.sum(0)))
        edges.append(sign[:, None] * (one.reads[column] @ into.T))
        into = sign[:, None] * one.writes[column]
    return edges, float(torch.cat(f1s).mean())


def _hits(model: Booleans, edges: Sequence[Float[Tensor, "_ _"]], *, by: int = 0) -> list[Bool[Tensor, "_ 2"]]:
    """Step 5: which planted pairs are among the two largest edges; by: of the conjunction so many places further."""
    found = []
    for level, one in zip(model.levels, edges, strict=True):
        largest = one.topk(2, dim=1).indices
        found.append((level.parents.roll(by, 0)[:, :, None] == largest[:, None]).any(2))
    return found


def _share(hits: Sequence[Bool[Tensor, "_ 2"]]) -> float:
    return float(torch.cat(list(hits)).float().mean())
