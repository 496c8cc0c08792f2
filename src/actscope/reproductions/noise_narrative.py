"""A transformer sees more concepts the less there is to see, and errs where it does. Suresh, Stanley, Joseph, Scimeca and
Bzdok 2025, "From Noise to Narrative: Tracing the Origins of Hallucinations in Transformers" (arXiv:2509.06938), on pocket,
whose right answers are known.

    1. Fit an autoencoder to the stream after each layer, on text as it is. BatchTopK: a threshold decides which concepts are
       active, so that their number may vary.
    2. Take the structure from other text, in six levels from none to random tokens, and count the concepts active in each
       sequence (scores/subject/concepts_under_noise.py). Spearman's rho of level and count, in the middle layers. Control:
       random directions, as often active on text as it is.
    3. Prompts with a known answer, each at a level drawn at random of those that lose no token; their last four tokens stay, so
       that the question is still asked. A prompt's error is the probability of anything but the first token of the answer.
    4. Predict the error from the mean activation of every concept over the prompt's tokens, by partial least squares. The
       number of components and the layer are those that do best on prompts kept for choosing. Baseline: the same of the mean
       activations themselves. Controls: of as many random directions, as many active; and of concepts, with the errors dealt
       out anew.
    5. The top concepts: the ten whose weight times mean activation adds most to the predicted error of the quarter of prompts
       with most error, where the regression was fitted. Take their part off the stream, at every token, on prompts not used
       yet: the quarter with most error. Does it fall? It is measured in nats (minus the logarithm of what is left of 1), for
       the probability is close to 1 at nearly all of these. Controls at the same tokens, of the same length: as many other
       concepts active there, and random directions.

On pocket the count rises where random directions fall silent, though not as evenly as the bar asks, and suppression works;
concepts predict the error no better than activations, nor than random directions do (LOG.md).

Letters: b prompts, t tokens, n rows (tokens of prompts), d width, m concepts, f columns.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from actscope.core import methods
from actscope.core.dictionary import Dictionary
from actscope.core.inputs import Inputs, real_text
from actscope.core.intervention import Replace
from actscope.core.progress import Progress, quiet
from actscope.core.reproduction import Reproduction
from actscope.core.site import Port, Site
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.dictionaries.batch_topk import BatchTopK
from actscope.organisms.grammar import grammar
from actscope.reproductions._parts.families import TopOf
from actscope.reproductions._parts.least_squares import partial
from actscope.reproductions._parts.planted import directions
from actscope.reproductions._parts.planted_features import spearman
from actscope.reproductions._parts.seeds import beyond, gathered, means
from actscope.scores._parts.noise import LEVELS, noisy
from actscope.scores._parts.passages import Passages, layers
from actscope.scores.dictionary.fvu import fvu
from actscope.scores.subject.concepts_under_noise import concepts_under_noise
from actscope.stores.capture import capture
from actscope.subjects.load import load
from actscope.training.plan import Plan
from actscope.training.sweep import sweep

__all__ = ["noise_narrative"]

CLAIM = (
    "The number of concepts active in middle layers rises with noise in the input (Spearman's rho of at least 0.8), concepts "
    "predict the output's error better than the activations do, and suppressing the top ones lowers it."
)
BAR = 0.8
TASKS = ("colored_objects", "context_facts", "docstring", "facts", "induction", "ioi", "successor")
SHUFFLED = LEVELS[:-1]  # for prompts: where tokens are drawn at random nothing says the answer
TAIL = 4  # tokens of a prompt that stay
COMPONENTS = 24  # at most
TOP = 10  # concepts suppressed
MOST = 0.75  # prompts beyond this quantile of error are those to mend
_ROWS = 256  # prompts run at a time


def noise_narrative(
    *,
    seeds: Sequence[int] = (0,),
    tokens: int = 50_000,
    rows: int = 150_000,
    latents: int = 512,
    k: int = 16,
    counted: int = 6_000,
    prompts: int = 150,
    draws: int = 20,
    full: bool = False,
    progress: Progress = quiet,
) -> Reproduction:
    """Concepts under noise, and the errors they foretell (Suresh et al. 2025, arXiv:2509.06938).

    seeds: of text, autoencoders and prompts. tokens: the autoencoders are fitted on; rows: seen in training; latents, k: of
    each. counted: tokens of text that loses its structure. prompts: of each task; draws: of each control of the suppression.
    full: three seeds, twice the text to count on and the prompts. ours, baseline and control: R2 of the error from concepts,
    activations, random directions. holds: in every seed rho reaches its bar, on average over the middle layers; and concepts
    predict better than activations, and suppressing the top ones lowers the error and more so than both controls, in every
    seed and over seeds (95%, Student's t).
    """
    began = time.monotonic()
    if full:
        seeds, counted, prompts = (0, 1, 2), 2 * counted, 2 * prompts
    subject = load("pocket")
    found: list[dict[str, float]] = []
    for number, seed in enumerate(seeds):
        progress(3 * number, 3 * len(seeds), f"seed {seed}: autoencoders")
        store = capture(subject, grammar(2 * seed, 100_000), layers(subject, "resid_post"), tokens=tokens)
        concepts = _fitted(store, rows, latents, k, seed)
        progress(3 * number + 1, 3 * len(seeds), f"seed {seed}: counts")
        passages = Passages.of(subject, grammar(2 * seed + 1, 100_000, split="test"), tokens=counted)
        one = _counts(subject, passages, concepts, seed)
        progress(3 * number + 2, 3 * len(seeds), f"seed {seed}: errors")
        asked = ask(subject, prompts, seed)
        found.append({**one, **_errors(subject, asked, store, concepts, draws, seed)})
    progress(3 * len(seeds), 3 * len(seeds), "seeds")
    figures = gathered(found)
    mean = means(figures)
    lowered = [figures[f"nats lowered by {name}"] for name in ("top concepts", "other concepts", "random directions")]
    holds = (
        min(figures["rho, middle layers"]) >= BAR
        and beyond(figures["R2 of concepts"], figures["R2 of activations"])
        and min(lowered[0]) > 0
        and beyond(*lowered)
    )
    return Reproduction(
        "noise-narrative", CLAIM, mean["R2 of concepts"], mean["R2 of activations"], mean["R2 of random directions"],
        "R2 of the output's error", tuple(seeds), holds, time.monotonic() - began, figures,
        {"subject": subject.fingerprint, "corpus": grammar(2 * seeds[0], 100_000).fingerprint},
    )  # fmt: skip


def _fitted(store: Store, rows: int, latents: int, k: int, seed: int) -> dict[Site, Dictionary]:
    """Step 1."""
    members = {str(p): BatchTopK(reads={p: width}, n_latents=latents, k=k, seed=seed) for p, width in store.ports.items()}
    fitted = sweep(members, store, Plan(rows=rows, batch=1024, seed=seed))
    return {port.site: fitted[str(port)] for port in store.ports}


def _counts(subject: Subject, passages: Passages, concepts: Mapping[Site, Dictionary], seed: int) -> dict[str, float]:
    """Step 2."""
    found: dict[str, float] = {}
    for site, dictionary in concepts.items():
        rho, *levels = concepts_under_noise(subject, passages, dictionary=dictionary, seed=seed)
        at = f"layer {site.layer}"
        random = [one.control or 0.0 for one in levels]
        found |= {f"rho, {at}": rho.value, f"rho, {at}, random directions": rho.control or 0.0}
        found[f"rho of active a token, {at}"] = rho.parts["active"]
        found[f"rho of means, {at}"] = spearman([float(n) for n in range(len(levels))], [one.value for one in levels])
        found |= {f"concepts as it is, {at}": levels[0].value, f"concepts in noise, {at}": levels[-1].value}
        found[f"random directions in noise over as it is, {at}"] = random[-1] / random[0]
    middle = [site.layer for site in concepts][1:-1]
    for name in ("", ", random directions"):
        each = [found[f"rho, layer {layer}{name}"] for layer in middle]
        found[f"rho, middle layers{name}"] = sum(each) / len(each)
    return found


@dataclass(frozen=True)
class Asked:
    """Prompts with their structure more or less taken from them. cost: of a right answer, in nats."""

    inputs: Inputs
    right: Bool[Tensor, "b v"]  # first tokens of right answers
    level: Int[Tensor, " b"]  # which of SHUFFLED
    cost: Float[Tensor, " b"]

    @property
    def error(self) -> Float[Tensor, " b"]:
        """The probability of anything but a right answer."""
        return 1 - (-self.cost).exp()

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Prompts to fit on (three fifths), to choose on and to judge on; they come in a random order."""
        n = len(self.cost)
        fitted, chosen, judged = torch.arange(n).split([n - 2 * (n // 5), n // 5, n // 5])
        return fitted, chosen, judged

    def some(self, index: Int[Tensor, " c"]) -> "Asked":
        inputs = Inputs(*(None if value is None else value[index] for value in self.inputs))
        return Asked(inputs, self.right[index], self.level[index], self.cost[index])


def ask(subject: Subject, n: int, seed: int, tasks: Sequence[str] = TASKS) -> Asked:
    """Step 3: n prompts of each task, less those that are the same."""
    drawn: list[Any] = [task for name in tasks for task in methods.find("tasks", name)().examples(n, seed=seed, split="test")]  # type: ignore[operator]
    examples = list({one.prompt: one for one in drawn}.values())
    draw = torch.Generator().manual_seed(seed)
    examples = [examples[i] for i in torch.randperm(len(examples), generator=draw)]
    inputs = subject.prepare([one.prompt for one in examples])
    whole = [(row, one.prompt + answer) for row, one in enumerate(examples) for answer in one.answers]
    answered = subject.prepare([text for _, text in whole])
    assert inputs.ids is not None and inputs.mask is not None and answered.ids is not None
    length, row = inputs.mask.sum(1), torch.tensor([row for row, _ in whole])
    first = answered.ids.gather(1, length[row, None])[:, 0]
    vocabulary = next(info for site, info in subject.sites.items() if site.kind == "logits").width
    right = torch.zeros(len(examples), vocabulary, dtype=torch.bool)
    right[row, first] = True
    level = torch.randint(len(SHUFFLED), (len(examples),), generator=draw)
    head = real_text(inputs) & (torch.arange(inputs.ids.shape[1]) < (length - TAIL)[:, None])
    words, ids = inputs.ids[real_text(inputs)], inputs.ids
    for number, grams in enumerate(SHUFFLED):
        ids = noisy(ids, head & (level == number)[:, None], grams, words, draw)
    clean = Asked(inputs._replace(ids=ids), right, level, torch.zeros(len(examples)))
    return Asked(clean.inputs, right, level, cost_of(subject, clean))


@torch.no_grad()
def cost_of(
    subject: Subject, asked: Asked, site: Site | None = None, stream: Float[Tensor, "b t d"] | None = None
) -> Float[Tensor, " b"]:
    """Minus the log-probability of a right answer after each prompt, in nats, with `stream` standing at the site."""
    found = []
    for part in torch.arange(len(asked.right)).split(_ROWS):
        some = asked.some(part)
        assert some.inputs.mask is not None
        write = [] if site is None or stream is None else [Replace(site, stream[part])]
        logits = subject.run(some.inputs, write=write).logits
        assert logits is not None
        said = logits[torch.arange(len(part)), some.inputs.mask.sum(1) - 1].log_softmax(-1)
        found.append(-said.masked_fill(~some.right, -torch.inf).logsumexp(1))
    return torch.cat(found)


@torch.no_grad()
def _errors(
    subject: Subject, asked: Asked, store: Store, concepts: Mapping[Site, Dictionary], draws: int, seed: int
) -> dict[str, float]:
    """Steps 4 and 5."""
    text = real_text(asked.inputs)
    acts = {site: _streams(subject, asked, site) for site in concepts}
    best: dict[str, Regression] = {}
    found = {f"error, level {level}": float(asked.error[asked.level == level].mean()) for level in range(len(SHUFFLED))}
    anew = asked.error[torch.randperm(len(asked.error), generator=torch.Generator().manual_seed(seed))]
    for site, dictionary in concepts.items():
        x = acts[site][text]
        codes = dictionary.encode(x)
        k = max(1, round(len(codes.index) / len(codes)))
        random = directions(dictionary.n_latents, x.shape[1], seed=seed)
        columns = {
            "concepts": pooled(codes.dense(), text),
            "activations": pooled(x, text),
            "random directions": pooled(TopOf(Port(site), random, x.mean(0), k).encode(x).dense(), text),
        }
        columns["concepts, errors dealt out anew"] = columns["concepts"]
        for name, column in columns.items():
            one = regression(column, anew if name.endswith("anew") else asked.error, asked.parts, site)
            found[f"R2 of {name}, layer {site.layer}"] = one.judged
            best[name] = max(best.get(name, one), one, key=lambda each: each.chosen)
        found[f"unexplained, layer {site.layer}"] = fvu(dictionary, store, documents=list(store.documents)[:200]).value
    for name, one in best.items():
        found |= {f"R2 of {name}": one.judged, f"layer of {name}": float(one.site.layer or 0)}
    chosen = best["concepts"]
    return found | suppression(subject, asked, concepts[chosen.site], chosen, acts[chosen.site], draws, seed)


@torch.no_grad()
def _streams(subject: Subject, asked: Asked, site: Site) -> Float[Tensor, "b t d"]:
    parts = torch.arange(len(asked.right)).split(_ROWS)
    return torch.cat([subject.run(asked.some(part).inputs, read=[site]).acts[site].float() for part in parts])


def pooled(values: Float[Tensor, "n f"], text: Bool[Tensor, "b t"]) -> Float[Tensor, "b f"]:
    """The mean over each prompt's tokens of text, of which there is a row each."""
    row = text.nonzero()[:, 0]
    total = torch.zeros(len(text), values.shape[1]).index_add_(0, row, values.float())
    return total / text.sum(1, keepdim=True)


@dataclass(frozen=True)
class Regression:
    """Of the error on some columns. chosen, judged: R2 on the prompts to choose and to judge on. adds: what each column adds
    to the error predicted for the prompts with most error, of those it was fitted on."""

    site: Site
    chosen: float
    judged: float
    adds: Float[Tensor, " f"]


def regression(x: Float[Tensor, "b f"], y: Float[Tensor, " b"], parts: tuple[Tensor, Tensor, Tensor], site: Site) -> Regression:
    """Partial least squares with the number of components that does best on the second part."""
    fit, choose, judge = ((x[part], y[part]) for part in parts)
    found = partial(*fit, COMPONENTS)
    chosen, judged = found.r2(*choose), found.r2(*judge)
    best = int(chosen.argmax())
    most = fit[0][fit[1] >= fit[1].quantile(MOST)]
    return Regression(site, float(chosen[best]), float(judged[best]), found.weight[best].float() * most.mean(0))


@torch.no_grad()
def suppression(
    subject: Subject, asked: Asked, dictionary: Dictionary, chosen: Regression, stream: Float[Tensor, "b t d"], draws: int,
    seed: int,
) -> dict[str, float]:  # fmt: skip
    """Step 5, on the prompts to judge on; of all of them too."""
    judge = asked.parts[2]
    cost = asked.cost[judge]
    most = judge[cost >= cost.quantile(MOST)]
    top = chosen.adds.topk(TOP).indices
    draw = torch.Generator().manual_seed(seed)

    def after(these: Int[Tensor, " c"], kind: str) -> Float[Tensor, " c"]:
        some = asked.some(these)
        text, x = real_text(some.inputs), stream[these].clone()
        x[text] -= taken(dictionary, x[text], top, kind, draw)
        return cost_of(subject, some, chosen.site, x)

    before = asked.cost[most]
    lowered = {
        name: float(torch.stack([before - after(most, name) for _ in range(1 if name == "top concepts" else draws)]).mean())
        for name in ("top concepts", "other concepts", "random directions")
    }
    return {
        "nats before": float(before.mean()),
        **{f"nats lowered by {name}": value for name, value in lowered.items()},
        "nats lowered by top concepts, all prompts": float((cost - after(judge, "top concepts")).mean()),
        "length taken off, share": _share(dictionary, stream[most][real_text(asked.some(most).inputs)], top),
    }


def taken(
    dictionary: Dictionary, x: Float[Tensor, "n d"], top: Int[Tensor, " c"], kind: str, draw: torch.Generator
) -> Float[Tensor, "n d"]:
    """What is taken off each row: the part of the top concepts, or one of its length: of as many other concepts active there,
    or of random directions that stand for the top ones."""
    codes, atoms = dictionary.encode(x).dense(), next(iter(dictionary.atoms.values()))
    ours = codes[:, top] @ atoms[top]
    if kind == "top concepts":
        return ours
    if kind == "random directions":
        other = codes[:, top] @ torch.nn.functional.normalize(torch.randn(len(top), x.shape[1], generator=draw), dim=1)
    else:
        count, codes = (codes[:, top] > 0).sum(1, keepdim=True), codes.index_fill(1, top, 0.0)
        lot = torch.rand(codes.shape, generator=draw) * (codes > 0)
        order = lot.argsort(1, descending=True).argsort(1)
        other = (codes * (order < count)) @ atoms
    return other * ours.norm(dim=1, keepdim=True) / other.norm(dim=1, keepdim=True).clamp_min(1e-12)


def _share(dictionary: Dictionary, x: Float[Tensor, "n d"], top: Int[Tensor, " c"]) -> float:
    """The mean length of what the top concepts take off over that of the stream about its mean."""
    off = taken(dictionary, x, top, "top concepts", torch.Generator())
    return float(off.norm(dim=1).mean() / (x - x.mean(0)).norm(dim=1).mean())
