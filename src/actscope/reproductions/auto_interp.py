"""Explanations are found by machine and scored, and the scores hold up. Paulo, Mallen, Juang and Belrose 2024, "Automatically
Interpreting Millions of Features in Large Language Models" (arXiv:2410.13928); no language model explains or judges here.

    1. Planted rules: latents that are rules over pocket's text, silent at one in ten of their places. Detection of the true
       rules on three document-disjoint splits; the same with permuted labels.
    2. Pocket: of an autoencoder's latents that find a cause of the corpus (F1 >= 0.8 on the first split), detection by that
       cause on all three splits.
    3. Quality: explanations of planted features (tokens that set a latent off, tokens that it promotes) with 0, 25, 50, 75 and
       100% of their tokens exchanged for others as common. A scorer passes where the rank correlation of quality and score
       is at least 0.9 on average over latents and seeds.
    4. Output: features that fire at random and promote tokens. Detection of the true explanation misses them; intervention
       tells them from random directions, and does not tell features that fire on tokens and move nothing.
    5. Latents of an autoencoder on the residual stream (that of `actscope demo`) against the top-k neurons of the same layer,
       both signs, and against random directions in the stream, as many active. Latents are drawn at random; each is paired
       with the neuron, and the random direction, that fires about as often. Rules of at most 8 tokens, as many as a sentence
       shows, are found for all, and up to 8 tokens that each promotes where it fires; every scorer that passed 3 judges them
       on documents not used before. Latents outscore a rival where the mean difference of pairs is above 0 in every seed and
       its 95% interval over the pairs of all seeds lies above 0.
    6. Beside it, not judged: steering with all three at the same effect, 0.5 nats, as the paper has it, in place of the same
       share of what each is in the text (twice its largest activation).

The layer, the matching and the length of rules were set before any outcome of step 5 was seen. The rest came after outcomes of
seeds 0 to 17: the strength of steering and the embedding word by word, chosen on seeds 100 to 105; 96 pairs for 48, and means
over seeds in step 3. The seeds of a full run, 18 to 20, were fresh. LOG.md has what every earlier form found.

Surprisal is read by a unigram model with a cache (_parts/cache_reader.py), which uses a description by copying from it; that
needs explanations which name tokens, as all do here. A full run also has pocket read them, which cannot use a description.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from actscope.core.dictionary import Dictionary
from actscope.core.explanation import Explanation
from actscope.core.labels import Labels
from actscope.core.progress import Progress, quiet
from actscope.core.reproduction import Reproduction
from actscope.core.score import Score
from actscope.core.site import Port
from actscope.core.store import Store, split_documents
from actscope.core.subject import Subject
from actscope.core.text import TokenText
from actscope.dictionaries.identity import Identity
from actscope.explainers.promoted import promoted
from actscope.explainers.rules import rules
from actscope.organisms.grammar import grammar
from actscope.organisms.planted_rules import RuleStore
from actscope.organisms.truth import truth
from actscope.reproductions._parts.cache_reader import CacheReader
from actscope.reproductions._parts.families import drawn_alike, families, paired
from actscope.reproductions._parts.planted_features import READS, STEPS, Known, degraded, known, per_latent, said, spearman
from actscope.reproductions._parts.planted_rules import PORT, ByTruth, columns_of, rules_of
from actscope.reproductions._parts.scorers import BY_SUBJECT, CHANCE, EFFECT, EQUAL, INPUT, OUTPUT, Scorers
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
STREAM, NEURONS = Port.parse("layers.1.resid_post"), Port.parse("layers.1.mlp_post")
RIVALS = ("neurons", "random directions")
BESIDE = 24  # latents a seed that step 6 takes


def auto_interp(
    *,
    seeds: Sequence[int] = (3,),
    tokens: int = 40_000,
    fitted: int = 60_000,
    latents: int = 1024,
    k: int = 16,
    rows: int = 200_000,
    each: int = 2,
    judged: int = 12,
    steered: int = 10,
    contexts: int = 50,
    places: int = 32,
    full: bool = False,
    progress: Progress = quiet,
) -> Reproduction:
    """Explanations found by machine and scored, with what is known (Paulo et al. 2024, arXiv:2410.13928).

    seeds: of text, features and dictionaries. tokens: judged on; fitted: tokens the autoencoder is fitted on, `rows` seen.
    latents, k: of it. each: planted features of each kind; judged: latents of each family, the first `steered` of them also
    by what they do. contexts: at least so many a side. places: steered at. full: three seeds, more text, the dictionary of
    `actscope demo`, more features, latents and places. holds: every bar named in the docstring of this file, in every seed.
    """
    began = time.monotonic()
    sizes = _Sizes(tokens, fitted, latents, k, rows, each, judged, steered, contexts, places)
    if full:
        seeds = (18, 19, 20)
        sizes = _Sizes(60_000, 300_000, 2048, k, 900_000, 3, 96, 48, contexts, 40, BY_SUBJECT)
    subject = load("pocket")
    found = []
    for number, seed in enumerate(seeds):
        found.append(_seed(subject, seed, sizes, lambda part, name, n=number, s=seed: progress(
            4 * n + part, 4 * len(seeds), f"seed {s}: {name}")))  # fmt: skip
    progress(4 * len(seeds), 4 * len(seeds), "seeds")
    return _reproduction(subject, seeds, found, time.monotonic() - began)


@dataclass(frozen=True)
class _Sizes:
    """How much of everything, as `auto_interp` has it. more: scorers of quality beside the usual ones."""

    tokens: int
    fitted: int
    latents: int
    k: int
    rows: int
    each: int
    judged: int
    steered: int
    contexts: int
    places: int
    more: str = ""


_Found = tuple[dict[str, float], dict[str, list[float]]]  # figures of a seed; differences of pairs, by scorer and rival


def _seed(subject: Subject, seed: int, sizes: _Sizes, progress: Callable[[int, str], None]) -> _Found:
    """Steps 1 to 5 for one seed."""
    progress(0, "text")
    text = _Text.of(subject, seed, sizes.tokens, sizes.fitted)
    progress(1, "planted rules")
    one = _rules(text, seed, sizes.contexts)
    dictionaries = families(text.fit, STREAM, text.few, NEURONS, sizes.latents, sizes.k, sizes.rows, seed=seed)
    one |= _causes(dictionaries["latents"], text, sizes.contexts, seed)
    progress(2, "planted features")
    one |= _quality(text, [*INPUT, *OUTPUT, *filter(None, [sizes.more])], sizes.each, sizes.contexts, sizes.places, seed)
    progress(3, "latents, neurons, random directions")
    values = _families(dictionaries, text, sizes, seed)
    return one | _means(values), _differences(values)


def _reproduction(subject: Subject, seeds: Sequence[int], found: Sequence[_Found], seconds: float) -> Reproduction:
    """The verdict over all seeds."""
    figures = gathered([one for one, _ in found])
    for name in found[0][1]:
        figures[f"{name}, mean"] = tuple(paired(gaps[name])[0] for _, gaps in found)
        figures[f"{name}, low and high over all pairs"] = paired([gap for _, gaps in found for gap in gaps[name]])[1]
    mean = means(figures)
    return Reproduction(
        "auto-interp", CLAIM, mean["detection: latents"], mean["detection: neurons"], mean["detection: latents, permuted"],
        "balanced accuracy of detection", tuple(seeds), _holds([one for one, _ in found], figures), seconds, figures,
        {"subject": subject.fingerprint, "corpus": grammar(2 * seeds[0] + 1, 100_000, split="test").fingerprint},
    )  # fmt: skip


@dataclass(frozen=True)
class _Text:
    """What the autoencoder is fitted on, some of it with neurons, what is judged on, and what is true there."""

    subject: Subject
    fit: Store
    few: Store
    held: Store
    words: TokenText
    counts: Tensor
    labels: Labels
    splits: list[list[int]]

    @staticmethod
    def of(subject: Subject, seed: int, tokens: int, fitted: int) -> "_Text":
        seen, corpus = grammar(2 * seed, 400_000), grammar(2 * seed + 1, 100_000, split="test")
        fit = capture(subject, seen, [STREAM.site], tokens=fitted)
        few = capture(subject, seen, [STREAM.site, NEURONS.site], tokens=10_000)
        held = capture(subject, corpus, list(dict.fromkeys(port.site for port in (STREAM, NEURONS, *READS))), tokens=tokens)
        words = TokenText.of(held, subject)
        counts = torch.bincount(words.ids, minlength=subject.sites[next(s for s in subject.sites if s.kind == "logits")].width)
        labels = truth(corpus, subject, documents=max(held.documents) + 1)
        return _Text(subject, fit, few, held, words, counts, labels, split_documents(held, 3, seed=seed))

    def reading(self, dictionary: Dictionary, split: int, store: Store | None = None) -> Reading:
        return Reading.of(dictionary, store or self.held, self.words, self.splits[split])


def _rules(text: _Text, seed: int, contexts: int) -> dict[str, float]:
    """Step 1."""
    true = rules_of(text.words, seed=seed)
    store = RuleStore(text.held, PORT, columns_of(true, text.words, silent=0.1, seed=seed))
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


def _quality(text: _Text, names: Sequence[str], each: int, contexts: int, places: int, seed: int) -> dict[str, float]:
    """Steps 3 and 4."""
    features = known(text.subject, text.counts, each, seed=seed)
    reading = Reading.of(features.dictionary, text.held, text.words)
    scorers = Scorers(reading, CacheReader(text.subject, text.counts), contexts=contexts, places=places, seed=seed)
    found: dict[str, float] = {}
    for name in names:
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
                low = [score.parts["over_random_low"] > 0 and _low(score) > 0.5 for score in scores.values()]
                found[f"{kind}-only features told from random directions"] = sum(low) / len(latents)
    return found


def _families(
    dictionaries: dict[str, Dictionary], text: _Text, sizes: _Sizes, seed: int
) -> dict[str, dict[str, list[Score | float | None]]]:
    """Steps 5 and 6: scorer -> family -> the score of each latent drawn, chance where there is none, None without chance."""
    contexts, places = sizes.contexts, sizes.places
    readings = {name: [text.reading(one, split) for split in range(3)] for name, one in dictionaries.items()}
    chosen = drawn_alike({name: _often(one, contexts) for name, one in readings.items()}, sizes.judged, seed=seed)
    values: dict[str, dict[str, list[Score | float | None]]] = {name: {} for name in (*INPUT, *OUTPUT, EQUAL)}
    reader = CacheReader(text.subject, text.counts)
    for family, dictionary in dictionaries.items():
        args, few = (dictionary, text.subject, text.held), chosen[family][: sizes.steered]
        explained = rules(*args, latents=chosen[family], contexts=contexts, tokens=8, seed=seed)
        effects = promoted(*args, latents=few, places=places, tokens=8, seed=seed)
        alike = promoted(*args, latents=few[:BESIDE], places=places, tokens=8, kl=EFFECT, seed=seed)
        scorers = Scorers(readings[family][2], reader, contexts=contexts, places=places, seed=seed)
        asked = {INPUT: (explained, chosen[family]), OUTPUT: (effects, few), (EQUAL,): (alike, few[:BESIDE])}
        for names, (these, latents) in asked.items():
            for name in names:
                scores = scorers(name, these, *args)
                values[name][family] = [scores.get(latent, CHANCE.get(name)) for latent in latents]
    return values


def _often(readings: Sequence[Reading], contexts: int) -> Tensor:
    """How often each latent fires in all; 0 for one with fewer than `contexts` places in a split, or at half of a split."""
    counts = torch.stack([reading.counts for reading in readings])
    rest = torch.stack([reading.counts / len(reading.text) for reading in readings]).amax(0) < 0.5
    return torch.where((counts.amin(0) >= contexts) & rest, counts.sum(0), 0)


def _low(score: Score) -> float:
    return score.interval[0] if score.interval else float("nan")


def _value(score: Score | float) -> float:
    return score.value if isinstance(score, Score) else score


def _means(values: dict[str, dict[str, list[Score | float | None]]]) -> dict[str, float]:
    """The mean of every scorer and family, and of detection with permuted labels."""
    found = {}
    for name, by_family in values.items():
        found |= {
            f"{name}: {family}": _mean([_value(s) for s in these if s is not None]) for family, these in by_family.items()
        }
    permuted = [one.control or 0.0 for one in values["detection"]["latents"] if isinstance(one, Score)]
    return found | {"detection: latents, permuted": _mean(permuted)}


def _differences(values: dict[str, dict[str, list[Score | float | None]]]) -> dict[str, list[float]]:
    """Latent less rival, for every scorer, rival and pair of which both have a score."""
    return {
        f"{name}: latents over {rival}": [
            _value(one) - _value(two)
            for one, two in zip(by_family["latents"], by_family[rival], strict=True)
            if one is not None and two is not None
        ]
        for name, by_family in values.items()
        for rival in RIVALS
    }


def _holds(found: Sequence[dict[str, float]], figures: dict[str, tuple[float, ...]]) -> bool:
    """Every bar, in every seed."""
    parts = [f"{what}, split {split}" for what in ("planted rules", "pocket causes") for split in (1, 2, 3)]
    told = all(
        one[f"{part}, mean"] >= BAR and abs(one[f"{part}, permuted"] - 0.5) <= NEAR
        for one in found for part in parts
    ) and all(
        one["output-only features told from random directions"] == 1
        and one["detection of output-only features, mean"] < 0.55
        and one["input-only features told from random directions"] == 0
        for one in found
    )  # fmt: skip
    passed = [name for name in (*INPUT, *OUTPUT) if _mean(figures[f"quality order: {name}"]) >= ORDER]
    over = [f"{name}: latents over {rival}" for name in passed for rival in RIVALS]
    better = all(min(figures[f"{name}, mean"]) > 0 and figures[f"{name}, low and high over all pairs"][0] > 0 for name in over)
    return told and bool(passed) and better


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _told(what: str, values: Sequence[float]) -> dict[str, float]:
    return {f"{what}, mean": _mean(values), f"{what}, least": min(values, default=float("nan"))}
