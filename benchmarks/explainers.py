"""What explanations are worth on pocket: detection, precision, and whether they name the planted cause.

    python -m benchmarks.explainers            # about 15 minutes on 2 cores; writes benchmarks/results/explainers.json
    python -m benchmarks.explainers --quick    # a few minutes, one seed fewer and less of everything; writes nothing

Three dictionaries (seeds) as `actscope demo` fits them, after the middle layer, on grammar and real text. Each is explained on
three texts that it was not fitted on, always judged on documents that took no part in finding the rule:

1. pocket's own grammar (what the rule finder was developed on), real text (the held-out standard library), and a second
   grammar that pocket was not trained on and that was written after the rule finder was frozen. For the second grammar a
   dictionary of its own is fitted too, on other documents of it. Detection is reported with permuted labels beside it.
2. On pocket's grammar: `named_cause`, by the organism's labels.
3. There too, the rivals: examples only (`exemplars`), the best set of tokens, and the rules of other latents.
4. `logit_lens` against steering, and features with planted rules over real text, whose true explanations are known.

Intervals: t over seeds.
"""

import argparse
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import torch
from benchmarks._rows import row
from rich.console import Console
from rich.table import Table

from actscope.core import files
from actscope.core.corpus import Corpus
from actscope.core.dictionary import Dictionary
from actscope.core.explanation import Explanation
from actscope.core.labels import Labels
from actscope.core.predicate import TokenIn
from actscope.core.score import Score
from actscope.core.site import Port, Site
from actscope.core.store import Store, split_documents
from actscope.core.subject import Subject
from actscope.core.text import TokenText
from actscope.corpora.mixture import mixture
from actscope.corpora.standard_library import standard_library
from actscope.dictionaries.topk import TopK
from actscope.explainers._parts.compose import length
from actscope.explainers.exemplars import exemplars
from actscope.explainers.logit_lens import logit_lens
from actscope.explainers.rules import rules
from actscope.organisms.grammar import grammar
from actscope.organisms.planted_rules import planted_rules
from actscope.organisms.second_grammar import second_grammar
from actscope.organisms.truth import truth
from actscope.scores._parts.reading import Reading
from actscope.scores._parts.seeds import over_seeds
from actscope.scores.explanation.detection import detection
from actscope.scores.explanation.named_cause import named_cause
from actscope.stores.capture import capture
from actscope.subjects.load import load
from actscope.training.fit import fit
from actscope.training.plan import Plan

RESULT = Path(__file__).parent / "results" / "explainers.json"
HOLDS = 0.8  # detection from which on an explanation is said to hold
console = Console(highlight=False, width=None if Console().is_terminal else 180)


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    seeds: int = 3
    latents: int = 2048
    captured: int = 300_000  # rows to fit on
    fitted: int = 900_000  # rows seen, repeats counted
    held: int = 240_000  # rows to explain on, of each text
    explained: int = 120  # latents, the most


QUICK = Sizes(seeds=2, latents=512, captured=60_000, fitted=200_000, held=90_000, explained=40)


@dataclass(frozen=True)
class Texts:
    """Stores to fit on and to explain on."""

    fit: Store
    fit_second: Store
    grammar: Store
    real: Store
    second: Store
    labels: Labels  # of grammar


def held_grammar() -> Corpus:
    return grammar(102, 100_000, split="test")


def capture_all(subject: Subject, site: Site, sizes: Sizes) -> Texts:
    seen = mixture([(grammar(101, 400_000), 0.94), (standard_library(split="train"), 0.06)], seed=0)
    held = capture(subject, held_grammar(), [site], tokens=sizes.held)
    return Texts(
        capture(subject, seen, [site], tokens=sizes.captured),
        capture(subject, second_grammar(201, 100_000), [site], tokens=sizes.captured),
        held,
        capture(subject, standard_library(split="held"), [site], tokens=sizes.held),
        capture(subject, second_grammar(202, 100_000), [site], tokens=sizes.held),
        truth(held_grammar(), subject, documents=max(held.documents) + 1),
    )


def fitted(store: Store, site: Site, sizes: Sizes, seed: int) -> Dictionary:
    made = TopK(reads={Port(site): store.ports[Port(site)]}, n_latents=sizes.latents, k=16, seed=seed)
    return fit(made, store, Plan(rows=sizes.fitted, batch=2048, seed=seed))


def drawn(dictionary: Dictionary, subject: Subject, store: Store, most: int, seed: int, least: int = 200) -> list[int]:
    """A seeded draw of the latents with at least `least` activations in each of the three splits."""
    text = TokenText.of(store, subject)
    counts = torch.stack([Reading.of(dictionary, store, text, part).counts for part in split_documents(store, 3, seed=seed)])
    alive = (counts.amin(0) >= least).nonzero()[:, 0]
    return sorted(alive[torch.randperm(len(alive), generator=torch.Generator().manual_seed(seed))[:most]].tolist())


def figures(found: Sequence[Explanation]) -> dict[str, float]:
    """What is reported of a list of explanations that have been judged."""
    scores = [one.score("detection") for one in found]
    sizes = [length(one.rule) for one in found if one.rule is not None]
    return {
        "explained": float(len(found)),
        f"detection >= {HOLDS}": sum(score.value >= HOLDS for score in scores) / len(scores),
        "mean detection": sum(score.value for score in scores) / len(scores),
        "mean detection, permuted labels": sum(score.control or 0.0 for score in scores) / len(scores),
        "mean recall": sum(score.parts["recall"] for score in scores) / len(scores),
        "median precision": median(score.parts["precision"] for score in scores),
        "mean F1": sum(f1_of(score) for score in scores) / len(scores),
        "mean parts": sum(parts for parts, _ in sizes) / len(sizes),
        "mean tokens listed": sum(tokens for _, tokens in sizes) / len(sizes),
    }


def f1_of(score: Score) -> float:
    precision, recall = score.parts["precision"], score.parts["recall"]
    return 2 * precision * recall / max(precision + recall, 1e-9)


def best_tokens(dictionary: Dictionary, subject: Subject, store: Store, latents: Iterable[int], seed: int) -> list[Explanation]:
    """For each latent the set of tokens with the highest F-beta (beta as `rules` has it) on the propose documents."""
    reading = Reading.of(dictionary, store, TokenText.of(store, subject), split_documents(store, 3, seed=seed)[0])
    vocabulary, squared = reading.text.vocabulary, 2.5**2
    said = torch.bincount(reading.text.ids, minlength=len(vocabulary))
    found = []
    for latent in latents:
        rows, _ = reading.active(latent)
        hit = torch.bincount(reading.text.ids[rows], minlength=len(vocabulary))
        order = (hit / said.clamp(min=1)).argsort(descending=True)
        hits, all_said = hit[order].cumsum(0), said[order].cumsum(0)
        best = int(((1 + squared) * hits / (all_said + squared * len(rows))).argmax())
        tokens = tuple(dict.fromkeys(vocabulary[token] for token in order[: best + 1].tolist()))
        found.append(Explanation(latent, "", "tokens", TokenIn(tokens)))
    return found


def of_other_latents(found: Sequence[Explanation], seed: int) -> list[Explanation]:
    """Every latent with the rule of another."""
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed)).tolist()
    return [replace(found[a], rule=found[b].rule) for a, b in zip(order, [*order[1:], order[0]], strict=True)]


def judged(
    found: Sequence[Explanation], dictionary: Dictionary, subject: Subject, store: Store, seed: int
) -> list[Explanation]:
    """With detection on the report documents, as `rules` judges."""
    report = split_documents(store, 3, seed=seed)[2]
    scores = detection(found, dictionary, subject, store, documents=report, seed=seed + 3)
    return [replace(one, scores=(scores[one.latent],)) for one in found if one.latent in scores]


def explain_texts(subject: Subject, texts: Texts, site: Site, sizes: Sizes, seed: int) -> dict[str, dict[str, float]]:
    """Parts 1 to 3 for one seed: what -> figures."""
    learned, own = fitted(texts.fit, site, sizes, seed), fitted(texts.fit_second, site, sizes, seed)
    found: dict[str, dict[str, float]] = {}
    for name, one, store in (
        ("pocket's grammar", learned, texts.grammar),
        ("real text", learned, texts.real),
        ("second grammar", learned, texts.second),
        ("second grammar, its own dictionary", own, texts.second),
    ):
        latents = drawn(one, subject, store, sizes.explained, seed)
        begun = time.process_time()
        explained = rules(one, subject, store, latents=latents, seed=seed)
        seconds = time.process_time() - begun
        found[f"rules on {name}"] = {**figures(explained), "processor seconds a latent": seconds / len(latents)}
        if store is texts.grammar:
            ours = [one.latent for one in explained]
            found[f"exemplars on {name}"] = figures(exemplars(learned, subject, store, latents=ours, seed=seed))
            tokens = best_tokens(learned, subject, store, ours, seed)
            found[f"best tokens on {name}"] = figures(judged(tokens, learned, subject, store, seed))
            others = of_other_latents(explained, seed)
            found[f"rules of other latents on {name}"] = figures(judged(others, learned, subject, store, seed))
            parts = split_documents(store, 3, seed=seed)
            named = named_cause(
                explained, one, subject, store, texts.labels, choose=parts[0] + parts[1], report=parts[2], seed=seed
            )
            found["rules name the planted cause"] = told(named)
            lensed = logit_lens(one, subject, store, latents=latents, documents=parts[2], seed=seed)
            found["logit lens on pocket's grammar"] = lens_figures(lensed)
    return found


def told(named: Score) -> dict[str, float]:
    kept = ("own_rule", "strict", "rule_f1", "truth_f1", "causes")
    return {
        "share of latents": named.value,
        "share of latents, rules of others": named.control or 0.0,
        "latents judged": float(named.n),
        **{name: named.parts[name] for name in kept},
    }


def lens_figures(found: Sequence[Explanation]) -> dict[str, float]:
    scores = [one.score("direct_path") for one in found]
    return {
        "correlation with steering": sum(score.value for score in scores) / len(scores),
        "correlation with steering, other latents' lenses": sum(score.control or 0.0 for score in scores) / len(scores),
        "share more peaked than 95% of random directions": sum(float(one.evidence["chance"]) <= 0.05 for one in found)  # type: ignore[arg-type]
        / len(found),
    }


def planted(subject: Subject, texts: Texts, seed: int) -> dict[str, dict[str, float]]:
    """Part 4: features with planted rules over real text: the true explanations and what `rules` finds in their place."""
    made = planted_rules(subject, texts.real, seed=seed)
    latents = made.latents("input", "both")
    report = split_documents(made.store, 3, seed=seed)[2]
    truths = [made.explanations[latent] for latent in latents]
    scores = detection(truths, made.dictionary, subject, made.store, documents=report, contexts=100, seed=seed + 3)
    true = [replace(one, scores=(scores[one.latent],)) for one in truths if one.latent in scores]
    found = rules(made.dictionary, subject, made.store, latents=latents, contexts=100, seed=seed)
    return {"true rules planted in real text": figures(true), "rules found for rules planted in real text": figures(found)}


def rows_of(seeds: Sequence[Mapping[str, Mapping[str, float]]]) -> list[dict]:
    """Means over seeds with intervals; differences from `rules` are paired."""
    rows = []
    for what in seeds[0]:
        for name in seeds[0][what]:
            mean, interval = over_seeds([one[what][name] for one in seeds])
            rows.append(row(f"actscope {what}: {name}", mean, unit_of(name), interval=interval))
        rival, _, text = what.partition(" on ")
        if rival in ("exemplars", "best tokens", "rules of other latents"):
            for name in ("mean detection", "mean F1"):
                gains = [one[f"rules on {text}"][name] - one[what][name] for one in seeds]
                mean, interval = over_seeds(gains)
                rows.append(row(f"actscope rules minus {what}: {name}", mean, unit_of(name), interval=interval))
    return rows


def unit_of(name: str) -> str:
    units = {
        "detection": "balanced accuracy",
        "seconds": "seconds",
        "F1": "F1",
        "f1": "F1",
        "parts": "parts",
        "tokens": "tokens",
    }
    if name.startswith("detection >=") or "share" in name or name in ("own_rule", "strict"):
        return "share of latents"
    if "correlation" in name:
        return "correlation"
    if name in ("explained", "latents judged", "causes"):
        return name.split()[0]
    return next((unit for part, unit in units.items() if part in name), "share of rows")


def show(rows: Sequence[dict]) -> None:
    table = Table(title="explainers", box=None)
    for name in ("what", "value", "95% interval", "unit"):
        table.add_column(name, no_wrap=True)
    for one in rows:
        spread = "" if one["lo"] is None else f"{one['lo']:.3f} to {one['hi']:.3f}"
        table.add_row(one["what"], f"{one['value']:.3f}", spread, one["unit"])
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> list[dict]:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.explainers", description="What explanations are worth.")
    parser.add_argument("--model", default="pocket", help="what to load")
    parser.add_argument("--quick", action="store_true", help="smaller and fewer; writes nothing")
    given = parser.parse_args(arguments)
    sizes, started = QUICK if given.quick else Sizes(), time.monotonic()
    subject = load(given.model)
    middle = (len({site.layer for site in subject.sites} - {None}) - 1) // 2
    site = Site("resid_post", middle)
    texts = capture_all(subject, site, sizes)
    console.print(f"captured after {time.monotonic() - started:.0f} s", style="dim")
    found = []
    for seed in range(sizes.seeds):
        found.append({**explain_texts(subject, texts, site, sizes, seed), **planted(subject, texts, seed)})
        console.print(f"seed {seed} after {time.monotonic() - started:.0f} s", style="dim")
    rows = rows_of(found)
    rows.append(row("the whole benchmark", time.monotonic() - started, "seconds"))
    show(rows)
    if not given.quick:
        machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
        files.write_json(RESULT, {"machine": machine, "date": time.strftime("%Y-%m-%d"), "rows": rows})
    return rows


if __name__ == "__main__":
    main()
