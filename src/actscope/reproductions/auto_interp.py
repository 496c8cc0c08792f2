"""Explanations are found by machine and scored, and the scores hold up. Paulo, Mallen, Juang and Belrose 2024, "Automatically
Interpreting Millions of Features in Large Language Models" (arXiv:2410.13928); no language model explains or judges here.

    1. Planted rules: latents that are rules over pocket's text, silent at one in ten of their places. Detection of the true
       rules on three document-disjoint splits; the same with permuted labels.
    2. Pocket: of an autoencoder's latents that find a cause of the corpus (F1 >= 0.8 on the first split), detection by that
       cause on all three splits.
    3. Quality: explanations of planted features (tokens that set a latent off, tokens that it promotes) with 0, 25, 50, 75 and
       100% of their tokens exchanged for others as common. A scorer passes where the rank correlation of quality and score
       is at least 0.9 on average over latents.
    4. Output: features that fire at random and promote tokens. Detection of the true explanation misses them; intervention
       tells them from random directions, and does not tell features that fire on tokens and move nothing.
    5. Latents against top-k neurons of the same site, both signs, and random directions, as many active: rules are found for
       each, and tokens that each promotes; every scorer that passed 3 judges them on documents not used before.

Surprisal is read by a unigram model with a cache (_parts/cache_reader.py), which uses a description by copying from it; that
needs explanations which name tokens, as all do here. Pocket as the reader does not order them (LOG.md).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from actscope.core.dictionary import Dictionary
from actscope.core.explanation import Explanation
from actscope.core.labels import Labels
from actscope.core.progress import Progress, quiet
from actscope.core.reproduction import Reproduction
from actscope.core.site import Port
from actscope.core.store import Store, split_documents
from actscope.core.subject import Subject
from actscope.core.text import TokenText
from actscope.dictionaries.identity import Identity
from actscope.explainers.promoted import promoted
from actscope.explainers.rules import rules
from actscope.organisms.grammar import grammar
from actscope.organisms.truth import truth
from actscope.reproductions._parts.cache_reader import CacheReader
from actscope.reproductions._parts.families import between, families
from actscope.reproductions._parts.planted_features import READS, STEPS, Known, degraded, known, per_latent, said, spearman
from actscope.reproductions._parts.planted_rules import PORT, ByTruth, RuleStore, columns_of, rules_of
from actscope.reproductions._parts.scorers import CHANCE, INPUT, OUTPUT, Scorers
from actscope.reproductions._parts.seeds import gathered, means
from actscope.scores._parts.reading import Reading
from actscope.scores.explanation.detection import detection
from actscope.stores.capture import capture
from actscope.subjects.load import load

__all__ = ["auto_interp"]

CLAIM = (
    "True explanations reach a balanced detection accuracy of at least 0.9 and permuted labels 0.5; intervention singles out "
    "features that only act on the output; latents outscore top-k neurons and random directions on every scorer that orders "
    "explanations of known quality."
)
BAR, NEAR, ORDER, FOUND = 0.9, 0.03, 0.9, 0.8
SITE = Port.parse("layers.1.mlp_post")


def auto_interp(
    *,
    seeds: Sequence[int] = (0,),
    tokens: int = 40_000,
    fitted: int = 60_000,
    latents: int = 1024,
    k: int = 16,
    rows: int = 200_000,
    each: int = 2,
    judged: int = 8,
    contexts: int = 50,
    places: int = 32,
    full: bool = False,
    progress: Progress = quiet,
) -> Reproduction:
    """Explanations found by machine and scored, with what is known (Paulo et al. 2024, arXiv:2410.13928).

    seeds: of text, features and dictionaries. tokens: judged on; fitted: tokens the autoencoder is fitted on, `rows` seen.
    latents, k: of it. each: planted features of each kind; judged: latents of each family. contexts: at least so many a
    side. places: steered at. full: three seeds, twice the text, more features, latents and places. holds: every bar named in
    the docstring of this file, in every seed.
    """
    began = time.monotonic()
    if full:
        seeds, tokens, fitted, rows, each, judged, places = (0, 1, 2), 60_000, 120_000, 600_000, 4, 24, 60
    subject = load("pocket")
    found = []
    for number, seed in enumerate(seeds):
        progress(4 * number, 4 * len(seeds), f"seed {seed}: text")
        text = _Text.of(subject, seed, tokens, fitted)
        progress(4 * number + 1, 4 * len(seeds), f"seed {seed}: planted rules")
        one = _rules(text, seed, contexts)
        dictionaries = families(text.fit, SITE, latents, k, rows, seed=seed)
        one |= _causes(dictionaries["latents"], text, contexts, seed)
        progress(4 * number + 2, 4 * len(seeds), f"seed {seed}: planted features")
        one |= _quality(text, each, contexts, places, seed)
        progress(4 * number + 3, 4 * len(seeds), f"seed {seed}: latents, neurons, random directions")
        found.append(one | _families(dictionaries, text, judged, contexts, places, seed))
    progress(4 * len(seeds), 4 * len(seeds), "seeds")
    figures = gathered(found)
    mean = means(figures)
    return Reproduction(
        "auto-interp", CLAIM, mean["detection: latents"], mean["detection: neurons"], mean["detection: latents, permuted"],
        "balanced accuracy of detection", tuple(seeds), all(_holds(one) for one in found), time.monotonic() - began, figures,
        {"subject": subject.fingerprint, "corpus": grammar(2 * seeds[0] + 1, 100_000, split="test").fingerprint},
    )  # fmt: skip


@dataclass(frozen=True)
class _Text:
    """What the autoencoder is fitted on, what is judged on, and what is true there."""

    subject: Subject
    fit: Store
    held: Store
    words: TokenText
    counts: Tensor
    labels: Labels
    splits: list[list[int]]

    @staticmethod
    def of(subject: Subject, seed: int, tokens: int, fitted: int) -> "_Text":
        corpus = grammar(2 * seed + 1, 100_000, split="test")
        fit = capture(subject, grammar(2 * seed, 100_000), [SITE.site], tokens=fitted)
        held = capture(subject, corpus, [SITE.site, *(port.site for port in READS)], tokens=tokens)
        words = TokenText.of(held, subject)
        counts = torch.bincount(words.ids, minlength=subject.sites[next(s for s in subject.sites if s.kind == "logits")].width)
        labels = truth(corpus, subject, documents=max(held.documents) + 1)
        return _Text(subject, fit, held, words, counts, labels, split_documents(held, 3, seed=seed))

    def reading(self, dictionary: Dictionary, split: int, store: Store | None = None) -> Reading:
        return Reading.of(dictionary, store or self.held, self.words, self.splits[split])


def _rules(text: _Text, seed: int, contexts: int) -> dict[str, float]:
    """Step 1."""
    true = rules_of(text.words, seed=seed)
    store = RuleStore(text.held, columns_of(true, text.words, silent=0.1, seed=seed))
    readout = Identity(reads={PORT: len(true)})
    said = [Explanation(latent, rule.sentence(), "planted", rule) for latent, rule in enumerate(true)]
    found = {}
    for split in range(3):
        reading = text.reading(readout, split, store)
        scores = detection(said, readout, text.subject, store, reading=reading, contexts=contexts, seed=seed)
        found |= _told(f"planted rules, split {split + 1}", [score.value for score in scores.values()])
        found[f"planted rules, split {split + 1}, permuted"] = _mean([score.control or 0.0 for score in scores.values()])
        found[f"planted rules, split {split + 1}, another's rule"] = _mean([one.parts["other"] for one in scores.values()])
    return found


def _causes(sae: Dictionary, text: _Text, contexts: int, seed: int) -> dict[str, float]:
    """Step 2."""
    readings = [text.reading(sae, split) for split in range(3)]
    first = readings[0]
    says: list[Explanation] = []
    entry = torch.repeat_interleave(torch.arange(sae.n_latents), first.counts)
    best = torch.zeros(sae.n_latents)
    named: dict[int, str] = {}
    for cause, holds in text.labels.at(first.text.where).items():
        hits = torch.bincount(entry[holds[first.rows]], minlength=sae.n_latents)
        f1 = 2 * hits / (first.counts + holds.sum()).clamp_min(1)
        for latent in (f1 > best).nonzero()[:, 0].tolist():
            named[latent] = cause
        best = torch.maximum(best, f1)
    for latent in (best >= FOUND).nonzero()[:, 0].tolist():
        says.append(Explanation(latent, named[latent], "truth", None, {"cause": named[latent]}))
    found = {"pocket causes: latents": float(len(says))}
    for split, reading in enumerate(readings):
        scores = detection(
            says,
            sae,
            text.subject,
            text.held,
            judge=ByTruth(text.labels),
            reading=reading,
            contexts=min(30, contexts),
            seed=seed,
        )
        found |= _told(f"pocket causes, split {split + 1}", [score.value for score in scores.values()])
        found[f"pocket causes, split {split + 1}, permuted"] = _mean([score.control or 0.0 for score in scores.values()])
    return found


def _quality(text: _Text, each: int, contexts: int, places: int, seed: int) -> dict[str, float]:
    """Steps 3 and 4."""
    features = known(text.subject, text.counts, each, seed=seed)
    reading = Reading.of(features.dictionary, text.held, text.words)
    scorers = Scorers(reading, CacheReader(text.subject, text.counts), contexts=contexts, places=places, seed=seed)
    found: dict[str, float] = {}
    for name in (*INPUT, *OUTPUT):
        by_step = {str(step): _steps(name, step, features, scorers, text, seed) for step in STEPS}
        kept = per_latent(by_step)
        found[f"quality order: {name}"] = _mean(
            [spearman([-float(step) for step in one], list(one.values())) for one in kept.values()]
        )
        for step in STEPS:
            found[f"{name} with {step:.0%} exchanged"] = _mean([one[str(step)] for one in kept.values()])
        found[f"seconds: {name}"] = scorers.seconds[name]
        found[f"asked: {name}"] = scorers.judged[name]
    return found | _output(features, scorers, text)


def _steps(name: str, step: float, features: Known, scorers: Scorers, text: _Text, seed: int) -> dict[int, float]:
    """Latent -> the score of its explanation with `step` of its tokens exchanged."""
    out = name in OUTPUT
    tokens, what = (features.promotes, "promotes") if out else (features.fires, "fires on")
    latents = features.latents("both", "output" if out else "input")
    these = [
        said(latent, degraded(tokens[latent], step, text.counts, seed=1000 * seed + latent), text.words.vocabulary, what)
        for latent in latents
    ]
    scores = scorers(name, these, features.dictionary, text.subject, text.held)
    return {latent: score.value for latent, score in scores.items()}


def _output(features: Known, scorers: Scorers, text: _Text) -> dict[str, float]:
    """Step 4."""
    found: dict[str, float] = {}
    for kind in ("output", "input"):
        latents = features.latents(kind)
        tokens = features.promotes if kind == "output" else features.fires
        these = [said(latent, tokens[latent], text.words.vocabulary, "promotes") for latent in latents]
        for name in ("detection", "intervention"):
            scores = scorers(name, these, features.dictionary, text.subject, text.held)
            found |= _told(f"{name} of {kind}-only features", [score.value for score in scores.values()])
            if name == "intervention":
                low = [score.parts["over_random_low"] > 0 for score in scores.values()]
                found[f"{kind}-only features told from random directions"] = sum(low) / len(latents)
    return found


def _families(
    dictionaries: dict[str, Dictionary], text: _Text, judged: int, contexts: int, places: int, seed: int
) -> dict[str, float]:
    """Step 5."""
    values: dict[str, dict[str, list[float]]] = {name: {} for name in (*INPUT, *OUTPUT)}
    permuted = []
    reader = CacheReader(text.subject, text.counts)
    for family, dictionary in dictionaries.items():
        readings = [text.reading(dictionary, split) for split in range(3)]
        often = torch.stack([reading.counts for reading in readings]).amin(0) >= contexts
        rest = torch.stack([reading.counts / len(reading.text) for reading in readings]).amax(0) < 0.5
        alive = (often & rest).nonzero()[:, 0]
        chosen = alive[torch.randperm(len(alive), generator=torch.Generator().manual_seed(seed))[:judged]].tolist()
        explained = rules(dictionary, text.subject, text.held, latents=chosen, contexts=contexts, seed=seed)
        effects = promoted(dictionary, text.subject, text.held, latents=chosen, places=places, seed=seed)
        scorers = Scorers(readings[2], reader, contexts=contexts, places=places, seed=seed)
        for name in (*INPUT, *OUTPUT):
            these = explained if name in INPUT else effects
            scores = scorers(name, these, dictionary, text.subject, text.held)
            values[name][family] = [scores[latent].value if latent in scores else CHANCE[name] for latent in chosen
                                    if latent in scores or name in CHANCE]  # fmt: skip
            if name == "detection" and family == "latents":
                permuted = [score.control or 0.0 for score in scores.values()]
    found = {"detection: latents, permuted": _mean(permuted)}
    for name, by_family in values.items():
        found |= {f"{name}: {family}": _mean(these) for family, these in by_family.items()}
        for rival in ("neurons", "random directions"):
            low, high = between(by_family["latents"], by_family[rival])
            found |= {f"{name}: latents over {rival}, low": low, f"{name}: latents over {rival}, high": high}
    return found


def _holds(one: dict[str, float]) -> bool:
    """Every bar, in one seed."""
    parts = [f"{what}, split {split}" for what in ("planted rules", "pocket causes") for split in (1, 2, 3)]
    true = all(one[f"{part}, mean"] >= BAR and abs(one[f"{part}, permuted"] - 0.5) <= NEAR for part in parts)
    output = (
        one["output-only features told from random directions"] == 1 and one["detection of output-only features, mean"] < 0.55
    )
    output = output and one["input-only features told from random directions"] == 0
    passed = [name for name in (*INPUT, *OUTPUT) if one[f"quality order: {name}"] >= ORDER]
    better = all(one[f"{name}: latents over {rival}, low"] > 0 for name in passed for rival in ("neurons", "random directions"))
    return true and output and bool(passed) and better


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _told(what: str, values: Sequence[float]) -> dict[str, float]:
    return {f"{what}, mean": _mean(values), f"{what}, least": min(values, default=float("nan"))}
