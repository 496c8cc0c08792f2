"""What is bound to what, read from a model's last state. Bronzini et al. 2025, "Hyperdimensional Probe: Decoding LLM
Representations via Vector Symbolic Architectures" (arXiv:2509.25045), on pocket, which goes by what a text states:
"Suppose that Anna Baker lives in Oslo and Peter Hill lives in Lima. So Anna Baker lives in".

    1. Keys are the 96 people of the second of the grammar's four buckets of frequency, values the 24 cities. Pocket says
       another city for about one prompt in seven, nearly always the other person's; decided on prompts that are not judged.
    2. A fifth of the pairs of person and city is held out. Prompts to train on state none of them; every prompt judged asks for
       one, and pocket was not trained on it.
    3. Fit a probe: the bundle of both facts, the city of the person asked for and that of the other.
    4. Read the city asked for, top-1, on the prompts judged. Baseline: the logit lens over the 24 cities, at the layer that
       does best on the training prompts. Controls: a probe whose bindings are shuffled; role vectors of another codebook.
    5. Where the similarity of what is read is low, does pocket err? AUROC over the prompts judged, beside that of pocket's own
       highest probability, which is no probe's.
    6. Rivals: a linear classifier, and an MLP with as many parameters as the probe, on the same states. Other encodings: the
       city asked for alone; the people as roles, as the paper binds keys to values.

Letters: n prompts, l layers, d width, c cities.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from actscope.core.dictionary import TrainableModule
from actscope.core.progress import Progress, quiet
from actscope.core.reproduction import Reproduction
from actscope.core.subject import Subject
from actscope.explainers.hd_probe import HDProbe, hypervectors, pooled
from actscope.explainers.hd_probe import hd_probe as fit_probe
from actscope.reproductions._parts.seeds import beyond, gathered, means
from actscope.scores._parts.detectors import auroc
from actscope.subjects.load import load
from actscope.tasks._parts.people import BUCKETS, HOMES, PEOPLE
from actscope.tasks._parts.rule import is_test
from actscope.tasks._parts.words import CITIES
from actscope.training.fit import fit
from actscope.training.plan import Plan

__all__ = ["hd_probe"]

CLAIM = (
    "The probe reads the bound value of queried keys with at least 85% top-1 on unseen combinations, above the logit lens; its "
    "similarity, where low, predicts the model's errors (AUROC at least 0.75)."
)
BAR, ERRORS = 0.85, 0.75
OPENINGS = ("In this story", "Suppose that", "Let us say that", "In the film", "In the game")
RECALLS = ("So", "Then", "Again", "Here", "Thus")
KEYS = range(*BUCKETS["33-128"])
HELD = 0.2  # share of the pairs held out
RATE = 2e-3  # of probes and classifiers alike
_ROWS = 256  # prompts run at a time
Pair = tuple[int, int]  # rank of the person, number of the city


def hd_probe(
    *,
    seeds: Sequence[int] = (0, 1, 2),
    prompts: int = 24_000,
    judged: int = 2_000,
    dimensions: int = 1024,
    hidden: int = 512,
    rows: int = 80_000,
    full: bool = False,
    progress: Progress = quiet,
) -> Reproduction:
    """Key-value pairs read by a hyperdimensional probe, and its confidence (Bronzini et al. 2025, arXiv:2509.25045).

    seeds: of the pairs held out, the prompts and the probes. prompts: to train on; judged: to judge on. dimensions, hidden: of
    the probe; rows: examples seen in training. full: five seeds and twice the rows. holds: in every seed top-1 and AUROC reach
    their bars and top-1 is above the lens, and over seeds (95%, Student's t) it is above the lens and the controls.
    """
    began = time.monotonic()
    if full:
        seeds, rows = tuple(range(5)), 2 * rows
    subject = load("pocket")
    found: list[dict[str, float]] = []
    for number, seed in enumerate(seeds):
        progress(number, len(seeds), f"seed {seed}")
        data = drawn(subject, prompts, judged, seed)
        found.append(_measured(subject, data, {"dimensions": dimensions, "hidden": hidden, "seed": seed}, rows))
    progress(len(seeds), len(seeds), "seeds")
    figures = gathered(found)
    mean = means(figures)
    against = [figures[name] for name in ("top-1 of logit lens", "top-1 with shuffled bindings", "top-1 with wrong roles")]
    bars = min(figures["top-1"]) >= BAR and min(figures["AUROC of similarity"]) >= ERRORS
    holds = bars and beyond(figures["top-1"], *against)
    return Reproduction(
        "hd-probe", CLAIM, mean["top-1"], mean["top-1 of logit lens"], mean["top-1 with shuffled bindings"], "share of prompts",
        tuple(seeds), holds, time.monotonic() - began, figures, {"subject": subject.fingerprint},
    )  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """Prompts that state where two people live and ask for one of them, with pocket's last states."""

    texts: tuple[str, ...]
    asked: tuple[Pair, ...]
    other: tuple[Pair, ...]
    layers: Float[Tensor, "n l d"]  # resid_post at the last token

    def bindings(self, kind: str) -> list[dict[str, str]]:
        """For each prompt, role -> concept. kind: "facts", "asked" (the city asked for alone) or "keys" (people as roles)."""
        pairs = list(zip(self.asked, self.other, strict=True))
        if kind == "keys":
            return [{name(person): CITIES[city] for person, city in both} for both in pairs]
        roles = ("asked", "other")[: 1 if kind == "asked" else 2]
        return [{role: CITIES[city] for role, (_, city) in zip(roles, both, strict=False)} for both in pairs]

    def first(self, count: int) -> "Facts":
        """The first prompts only."""
        return Facts(self.texts[:count], self.asked[:count], self.other[:count], self.layers[:count])

    @property
    def people(self) -> list[str]:
        """The person asked for."""
        return [name(person) for person, _ in self.asked]

    @property
    def states(self) -> Float[Tensor, "n d"]:
        """What the probe reads: the later half of the layers."""
        return pooled(self.layers[:, self.layers.shape[1] // 2 :], 5)

    @property
    def city(self) -> Int[Tensor, " n"]:
        """The number of the city asked for."""
        return torch.tensor([city for _, city in self.asked])


@dataclass(frozen=True)
class Data:
    train: Facts
    judge: Facts
    held: frozenset[Pair]


def name(person: int) -> str:
    """The full name of the person of a rank."""
    return " ".join(PEOPLE[person])


def drawn(subject: Subject, prompts: int, judged: int, seed: int) -> Data:
    """Steps 1 and 2. Prompts judged differ from one another and from those trained on, which hold none of their pairs."""
    random = Random(f"hold out {seed}")
    held = frozenset((person, city) for person in KEYS for city in range(len(CITIES)) if random.random() < HELD)
    train = _written(subject, prompts, f"train {seed}", lambda text, asked, other: not {asked, other} & held)
    judge = _written(subject, judged, f"judge {seed}", lambda text, asked, other: asked in held and is_test(text))
    return Data(train, judge, held)


def _written(subject: Subject, count: int, seed: str, wanted: Callable[[str, Pair, Pair], bool]) -> Facts:
    random, kept = Random(seed), dict[str, tuple[Pair, Pair]]()
    while len(kept) < count:
        asked, other = zip(random.sample(KEYS, 2), random.sample(range(len(CITIES)), 2), strict=True)
        home = HOMES[asked[0]] in (CITIES[asked[1]], CITIES[other[1]])  # what is memorised is not what is stated
        if home or PEOPLE[asked[0]][0] == PEOPLE[other[0]][0]:
            continue
        stated = [f" {name(person)} lives in {CITIES[city]}" for person, city in (asked, other)]
        random.shuffle(stated)
        text = f"{random.choice(OPENINGS)}{' and'.join(stated)}. {random.choice(RECALLS)} {name(asked[0])} lives in"
        if wanted(text, asked, other):
            kept[text] = (asked, other)
    texts = tuple(kept)
    asked, other = zip(*kept.values(), strict=True)
    return Facts(texts, tuple(asked), tuple(other), _layers(subject, texts))


@torch.no_grad()
def _layers(subject: Subject, texts: Sequence[str]) -> Float[Tensor, "n l d"]:
    sites = [site for site in subject.order if site.kind == "resid_post"]
    found = []
    for start in range(0, len(texts), _ROWS):
        inputs = subject.prepare(texts[start : start + _ROWS])
        assert inputs.mask is not None
        last = inputs.mask.sum(1) - 1
        acts = subject.run(inputs, read=sites).acts
        found.append(torch.stack([acts[site][torch.arange(len(last)), last] for site in sites], 1))
    return torch.cat(found)


@torch.no_grad()
def lens(subject: Subject, state: Float[Tensor, "n d"]) -> Float[Tensor, "n vocabulary"]:
    """The logits of a state of any layer, as if it were the last layer's."""
    weights = subject.weights()
    norm = (weights[f"gpt_neox.final_layer_norm.{part}"] for part in ("weight", "bias"))
    return functional.layer_norm(state, state.shape[1:], *norm, eps=1e-5) @ weights["lm_head.weight"].T


def _measured(subject: Subject, data: Data, settings: Mapping[str, int], rows: int) -> dict[str, float]:
    """Steps 3 to 6."""
    train, judge = data.train, data.judge
    cities = torch.cat([subject.prepare([f" {city}"]).ids[:, -1] for city in CITIES])  # type: ignore[index]
    logits = lens(subject, judge.layers[:, -1])
    errs = logits.argmax(1) != cities[judge.city]
    best = _best_layer(subject, train, cities)
    lensed = lens(subject, judge.layers[:, best])[:, cities].argmax(1)
    facts = train.bindings("facts")
    probe = _fitted(subject, train, facts, rows, settings)
    shuffled = _fitted(subject, train, Random(settings["seed"]).sample(facts, len(facts)), rows, settings)
    alone = _fitted(subject, train, train.bindings("asked"), rows // 2, settings)
    keys = _fitted(subject, train, train.bindings("keys"), rows // 2, settings)
    other = torch.Generator().manual_seed(2**20)
    wrong = replace(probe, role_vectors=hypervectors(len(probe.roles), probe.role_vectors.shape[1], other))
    seen = train.first(len(judge.texts))
    size = sum(value.numel() for value in probe.weights.values())
    read = {
        kind: _answers(one, judge, "asked")
        for kind, one in {
            "": probe,
            " with shuffled bindings": shuffled,
            " with wrong roles": wrong,
            " of the city alone": alone,
        }.items()
    }
    return {
        "errors of pocket": float(errs.float().mean()),
        "lens layer": float(best),
        "top-1 of logit lens": float((lensed == judge.city).float().mean()),
        "AUROC of pocket's own probability": auroc(-logits.log_softmax(1).max(1).values, errs),
        **{f"top-1{kind}": float(right.float().mean()) for kind, (right, _) in read.items()},
        **{f"AUROC of similarity{kind}": auroc(-similarity, errs) for kind, (_, similarity) in read.items()},
        "AUROC of the cosine with the mean": auroc(-_short(probe, judge), errs),
        "top-1 where pocket is right": float(read[""][0][~errs].float().mean()),
        "top-1 where pocket errs": float(read[""][0][errs].float().mean()),
        "top-1 of the other person's city": float(_answers(probe, judge, "other")[0].float().mean()),
        "top-1 with people as roles": float(_answers(keys, judge, judge.people)[0].float().mean()),
        "top-1 with people as roles, pairs trained on": float(_answers(keys, seen, seen.people)[0].float().mean()),
        "top-1 of linear classifier": _classified(train, judge, None, rows, settings),
        "top-1 of MLP classifier": _classified(train, judge, size, rows, settings),
    }  # fmt: skip


def _best_layer(subject: Subject, train: Facts, cities: Int[Tensor, " c"]) -> int:
    """The layer whose lens says the city asked for most often on (some of) the training prompts."""
    some = train.first(4_000)
    said = [lens(subject, some.layers[:, layer])[:, cities].argmax(1) for layer in range(some.layers.shape[1])]
    return max(range(len(said)), key=lambda layer: float((said[layer] == some.city).float().mean()))


def _fitted(subject: Subject, train: Facts, bindings: list[dict[str, str]], rows: int, settings: Mapping[str, int]) -> HDProbe:
    return fit_probe(
        subject, train.texts, bindings, concepts=CITIES, dimensions=settings["dimensions"], hidden=settings["hidden"],
        lr=RATE, rows=rows, seed=settings["seed"], states=train.states,
    )  # fmt: skip


def _answers(probe: HDProbe, judge: Facts, role: str | list[str]) -> tuple[Bool[Tensor, " n"], Float[Tensor, " n"]]:
    """(whether what is bound to the role is read, the similarity)."""
    found = probe.similarities(judge.states, role).max(1)
    city = judge.city if role != "other" else torch.tensor([city for _, city in judge.other])
    return found.indices == city, found.values


def _short(probe: HDProbe, judge: Facts) -> Float[Tensor, " n"]:
    """The largest cosine with the encoder's mean vector itself, whose length is not that of signs."""
    means = probe.encode(judge.states)
    return probe.similarities(judge.states, "asked").max(1).values / (means.square().mean(1).sqrt())


def _classified(train: Facts, judge: Facts, size: int | None, rows: int, settings: Mapping[str, int]) -> float:
    """Top-1 of a classifier of the city asked for. size: parameters of an MLP of two hidden layers; None: a linear one."""
    states, width, out = train.states, train.layers.shape[2], len(CITIES)
    hidden = (
        0 if size is None else round((-(width + out) + math.sqrt((width + out) ** 2 + 4 * size)) / 2)
    )  # size = h (d + c + h)
    sizes = (width, out) if size is None else (width, hidden, hidden, out)
    classifier = _Classifier(states, train.city, sizes, settings["seed"])
    fit(classifier, classifier, Plan(rows=rows, batch=256, lr=RATE, seed=settings["seed"]))
    with torch.no_grad():
        return float((classifier(judge.states).argmax(1) == judge.city).float().mean())


class _Classifier(TrainableModule):
    """Linear layers with GELU between them on standardised states, and the prompts they are trained on."""

    def __init__(self, states: Float[Tensor, "n d"], city: Int[Tensor, " n"], sizes: tuple[int, ...], seed: int):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(sizes))
        self.states, self.city, self.mean, self.scale = states, city, states.mean(0), states.std(0)

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
        x = (x - self.mean) / self.scale
        for number, layer in enumerate(self.layers):
            x = layer(functional.gelu(x) if number else x)
        return x

    def batches(self, size: int, *, seed: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.states), generator=torch.Generator().manual_seed(seed))
        return ((self.states[rows], self.city[rows]) for rows in order.split(size)[start:])

    def objective(self, batch: tuple[Tensor, Tensor], *, progress: float) -> dict[str, Tensor]:
        return {"loss": functional.cross_entropy(self(batch[0]), batch[1])}
