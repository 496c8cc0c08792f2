"""Every score of scores/dictionary on pocket, for a dictionary and what it must beat.

    python -m benchmarks.dictionary_scores            # about 10 minutes on 2 cores; writes results/dictionary_scores.json
    python -m benchmarks.dictionary_scores --quick    # a few minutes, a smaller dictionary, fewer seeds; writes nothing

The dictionaries are those of benchmarks/recovery.py, fitted on two thirds as many rows: topk at the residual stream after the
middle layer, as many random directions, that layer's neurons and the principal components; and topk after a single step
("untrained"), whose codes are as sparse. What is true comes from pocket's grammar; "letters" asks for the first letter of each
token instead, as on any model. Intervals: t over seeds for topk, untrained and random, which are made once a seed; bootstrap
over documents (or pairs) for the others and where there is one seed. Exchanging entities is measured after layer 0, with
dictionaries of that site: after the middle layer, pocket has moved what it needs to later tokens.
"""

import argparse
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from benchmarks._rows import row
from benchmarks.recovery import K_TRUTH, QUICK, Sizes, console, finders, held_grammar, plan_of
from rich.table import Table

from actscope.core import files
from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput
from actscope.core.labels import Labels
from actscope.core.score import Score
from actscope.core.site import Port, Site
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.core.task import Example
from actscope.dictionaries.identity import Identity
from actscope.dictionaries.random import Random
from actscope.dictionaries.topk import TopK
from actscope.organisms.grammar import grammar
from actscope.organisms.truth import truth
from actscope.scores._parts.census import Census
from actscope.scores._parts.seeds import over_seeds
from actscope.scores._parts.splices import Splices
from actscope.scores.dictionary.absorption import absorption
from actscope.scores.dictionary.cross_entropy import cross_entropy
from actscope.scores.dictionary.disentanglement import disentanglement
from actscope.scores.dictionary.fvu import fvu
from actscope.scores.dictionary.kl_divergence import kl_divergence
from actscope.scores.dictionary.l0 import l0
from actscope.scores.dictionary.probe_perturbation import probe_perturbation
from actscope.scores.dictionary.sparse_probing import sparse_probing
from actscope.scores.dictionary.splitting import splitting
from actscope.scores.dictionary.spurious_removal import spurious_removal
from actscope.scores.dictionary.stability import stability
from actscope.scores.dictionary.truth_recovery import truth_recovery
from actscope.scores.dictionary.unlearning import unlearning
from actscope.stores.capture import capture
from actscope.subjects.load import load
from actscope.tasks.colored_objects import ColoredObjects
from actscope.tasks.context_facts import ContextFacts
from actscope.tasks.induction import Induction
from actscope.tasks.ioi import IOI
from actscope.training.fit import fit
from actscope.training.plan import Plan

RESULT = Path(__file__).parent / "results" / "dictionary_scores.json"
SIZES = replace(Sizes(), captured=200_000, fitted=600_000, text=30_000)
FORGET = "city"
LEAST = 150  # rows on which a label holds in each half
ONCE = ("neurons", "pca")  # made without a seed
PAIRS = (("rule.ioi", "name.a-l"), ("name.a-l", "rule.ioi"))  # among names: the rule it stands in, and the half of the alphabet

PARTS = {  # of a score that are worth a line
    "sparse_probing": ("k:5", "random:5", "coordinates:1", "all", "f1", "f1_random", "f1_coordinates"),
    "splitting": ("f1", "unsaid"),
    "absorption": ("fraction", "fraction_control", "silent", "left_out"),
    "probe_perturbation": ("n:5", "n:50", "intended:20", "unintended:20", "clean"),
    "spurious_removal": ("n:5", "n:50", "zero:20", "biased", "balanced"),
    "unlearning": ("retain", "control_retain", "clean_forget", "clean_retain", "latents"),
    "stability": ("shared", "nearest", "live"),
    "disentanglement": ("cause", "isolation", "full_cause", "full_isolation"),
}


@dataclass(frozen=True)
class World:
    """What everything is judged on."""

    subject: Subject
    train: Store
    held: Store
    labels: Labels
    middle: int


def world(sizes: Sizes) -> World:
    subject = load("pocket")
    middle = (len({site.layer for site in subject.sites} - {None}) - 1) // 2
    sites = [Site("resid_post", 0), Site("resid_post", middle), Site("mlp_post", middle)]
    train = capture(subject, grammar(104, 400_000), sites, tokens=sizes.captured)
    held = capture(subject, held_grammar(), sites, tokens=sizes.text)
    known = truth(held_grammar(), subject, documents=max(held.documents) + 1)
    early = [keys for cause, keys in known.holds.items() if cause.startswith("name.") and cause[5] <= "l"]
    return World(subject, train, held, Labels({**known.holds, "name.a-l": torch.cat(early).unique()}), middle)


def measures(one: Dictionary, at: World, seed: int) -> dict[str, Callable[[], Score]]:
    """Every score but those that compare dictionaries or need another site."""
    held, subject, labels = at.held, at.subject, at.labels
    census = Census.of(one, held)
    splices = Splices.of(one, subject, held)
    asked = (one, subject, held)
    return {
        "fvu": lambda: fvu(one, held, census=census),
        "l0": lambda: l0(one, held, census=census),
        "cross_entropy": lambda: cross_entropy(*asked, splices=splices),
        "kl_divergence": lambda: kl_divergence(*asked, splices=splices),
        "truth_recovery": lambda: truth_recovery(one, held, labels, least=LEAST, seed=seed),
        "sparse_probing": lambda: sparse_probing(*asked, labels, least=LEAST, seed=seed),
        "sparse_probing letters": lambda: sparse_probing(*asked, seed=seed),
        "splitting": lambda: splitting(*asked, labels, least=LEAST, seed=seed),
        "splitting letters": lambda: splitting(*asked, seed=seed),
        "absorption": lambda: absorption(*asked, labels, least=LEAST, seed=seed),
        "absorption letters": lambda: absorption(*asked, seed=seed),
        "probe_perturbation": lambda: probe_perturbation(*asked, labels, least=LEAST, seed=seed),
        "spurious_removal": lambda: spurious_removal(one, held, labels, pairs=PAIRS, among="name", seed=seed),
        "unlearning": lambda: unlearning(*asked, labels, forget=FORGET, most=100, seed=seed),
    }


def scored(at: World, sizes: Sizes) -> dict[str, dict[str, list[Score]]]:
    """Measure -> dictionary -> a score a seed; neurons and components, which have no seed, once."""
    found: dict[str, dict[str, list[Score]]] = {}
    made: dict[str, list[Dictionary]] = {}
    for seed in range(sizes.seeds):
        for name, one in (finders(at.train, at.middle, sizes, seed) | {"untrained": untrained(at, sizes, seed)}).items():
            if seed and name in ONCE:
                continue
            made.setdefault(name, []).append(one)
            for measure, judge in measures(one, at, seed).items():
                started = time.monotonic()
                try:
                    value = judge()
                except BadInput as error:  # nothing to measure at this site: said, and left out of the table
                    console.print(f"  seed {seed} {name} {measure}: {error}", style="dim")
                    continue
                found.setdefault(measure, {}).setdefault(name, []).append(value)
                took = time.monotonic() - started
                console.print(f"  seed {seed} {name} {measure}: {value.value:.4f} ({took:.1f} s)", style="dim")
    several = {name: ones for name, ones in made.items() if len(ones) > 1}
    found["stability"] = {name: [stability(first, at.held, others=others)] for name, (first, *others) in several.items()}
    found["disentanglement"] = {name: [one] for name, one in exchanged(at, sizes).items()}
    return found


def untrained(at: World, sizes: Sizes, seed: int) -> Dictionary:
    """topk as its first step leaves it: scaled to the rows, its directions near those it was drawn with."""
    port = Port(Site("resid_post", at.middle))
    made = TopK(reads={port: at.train.ports[port]}, n_latents=sizes.latents, k=K_TRUTH, seed=seed)
    return fit(made, at.train, Plan(rows=2048, batch=2048, seed=seed))


def exchanged(at: World, sizes: Sizes) -> dict[str, Score]:
    """Exchanging entities, after layer 0."""
    port, width = Port(Site("resid_post", 0)), at.train.ports[Port(Site("resid_post", 0))]
    asked: Mapping[str, Sequence[Example]] = {
        task.name: task.examples(120, seed=0, split="test") for task in (ColoredObjects(), ContextFacts(), Induction(), IOI())
    }
    made = {
        "topk": TopK(reads={port: width}, n_latents=sizes.latents, k=K_TRUTH),
        "random": Random(reads={port: width}, n_latents=sizes.latents, seed=1000),
        "coordinates": Identity(reads={port: width}),
    }
    plan = plan_of(sizes, 0)
    return {f"{name} {port}": disentanglement(fit(one, at.train, plan), at.subject, asked) for name, one in made.items()}


def rows_of(found: Mapping[str, Mapping[str, Sequence[Score]]]) -> list[dict]:
    rows = []
    for measure, by_name in found.items():
        (ours, first), *rivals = by_name.items()
        for name, scores in by_name.items():
            what, unit = f"actscope {name} {measure}", scores[0].unit
            mean, interval = over_seeds([one.value for one in scores])
            rows.append(row(what, mean, unit, interval=interval or scores[0].interval))
            controls = [one.control for one in scores if one.control is not None]
            if controls:
                rows.append(row(f"{what} control", sum(controls) / len(controls), unit))
            for part in PARTS.get(measure.split()[0], ()):
                values = [one.parts[part] for one in scores if part in one.parts]
                if values:
                    rows.append(row(f"{what} {part}", sum(values) / len(values), unit))
        for name, scores in rivals:
            if len(scores) == len(first) > 1:
                gain, interval = over_seeds([one.value - other.value for one, other in zip(first, scores, strict=True)])
                rows.append(row(f"actscope {ours} minus {name} {measure}", gain, first[0].unit, interval=interval))
    return rows


def show(found: Mapping[str, Mapping[str, Sequence[Score]]]) -> None:
    """One line a measure and dictionary."""
    table = Table(title="scores of dictionaries", box=None)
    for name in ("measure", "better", "dictionary", "value", "95% interval", "control", "unit", "n"):
        table.add_column(name, no_wrap=True)
    for measure, by_name in found.items():
        for number, (name, scores) in enumerate(by_name.items()):
            mean, interval = over_seeds([one.value for one in scores])
            low, high = interval or scores[0].interval or (mean, mean)
            controls = [one.control for one in scores if one.control is not None]
            control = f"{sum(controls) / len(controls):.3f}" if controls else ""
            head = (measure, scores[0].better) if number == 0 else ("", "")
            table.add_row(*head, name, f"{mean:.3f}", f"{low:.3f} to {high:.3f}", control, scores[0].unit, str(scores[0].n))
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> list[dict]:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dictionary_scores", description="Every score on pocket.")
    parser.add_argument("--quick", action="store_true", help="smaller and fewer; writes nothing")
    given = parser.parse_args(arguments)
    sizes, started = QUICK if given.quick else SIZES, time.monotonic()
    found = scored(world(sizes), sizes)
    show(found)
    rows = rows_of(found)
    rows.append(row("the whole benchmark", time.monotonic() - started, "seconds"))
    console.print(f"{rows[-1]['value']:.0f} s", style="dim")
    if not given.quick:
        machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
        files.write_json(RESULT, {"machine": machine, "date": time.strftime("%Y-%m-%d"), "rows": rows})
    return rows


if __name__ == "__main__":
    main()
