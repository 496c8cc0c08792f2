"""Explain latents by rules over the tokens around their activations; no language model takes part.

The scheme propose, select, report keeps the last documents untouched until the rule is fixed. The search is in the
spirit of decision lists and of neuron explanation by compositional concepts (arXiv:2006.14032), with a vocabulary about
text that is general: token sets, neighbours, spelling, layout, place, repetition, delimiters, earlier words.

1. The documents are split in three by a hash of their ids (`split_documents(store, 3, seed=seed)`): propose, select, report.
2. On propose, for each latent: draw active, random inactive and hard inactive contexts (same token, silent); a beam
   search over "and", "and not", "or" of candidate rules maximises balanced accuracy, false alarms weighing more than
   misses, less a price for length.
3. On select, fresh contexts decide among the best of each length.
4. On report, the rule chosen is judged once, by detection with its control.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput, Interrupted
from actscope.core.explanation import Explanation
from actscope.core.predicate import Predicate
from actscope.core.progress import Progress, quiet, stop_requested
from actscope.core.score import Score
from actscope.core.store import Store, split_documents
from actscope.core.subject import Subject
from actscope.core.text import TokenText
from actscope.explainers._parts.evidence import evidence
from actscope.explainers._parts.search import Aim, Search, Space, Target, one_thread
from actscope.explainers._parts.strength import strength, target_above, target_active
from actscope.scores._parts.reading import Reading, check_subject
from actscope.scores.explanation.detection import detection

__all__ = ["rules"]


def rules(
    dictionary: Dictionary,
    subject: Subject,
    store: Store,
    *,
    latents: Sequence[int] | None = None,
    documents: Iterable[int] | None = None,
    contexts: int = 200,
    most: int = 1000,
    above: float = 0.0,
    beta: float = 2.0,
    leaves: int = 3,
    beam: int = 6,
    part_price: float = 0.02,
    token_price: float = 0.003,
    seed: int = 0,
    progress: Progress = quiet,
) -> list[Explanation]:
    """A rule for every latent that has enough contexts, best on the select documents first.

    latents: which to explain (None: all). documents: which to use, best those the dictionary was not trained on (None:
    all of the store); each latent needs `contexts` active and inactive contexts in each of the three splits, else it is
    left out and only counted. most: contexts drawn of each kind and split. above: a context is active when the value is
    above this share of the latent's largest; 0, the default, counts every activation, weak ones too.
    The search maximises recall less `alarm` times the false alarms at random tokens: with alarm=1 that is the balanced
    accuracy that is reported, which lets a rule for a rare latent fire five times as often as the latent; higher gives
    narrower rules that are more often right and are still reported by balanced accuracy. hard: the share of the inactive
    side that hard contexts have. leaves: the most parts a rule has. part_price, token_price: balanced accuracy that one
    more part, one more token listed, must gain.

    evidence: "tried" (latents asked for, latents explained, candidates scored for this latent, how many were compared on
    select), "select" (what the search maximises, measured on select), "splits" (documents, rows and active contexts of
    each), "density", "peak", "top_tokens", "examples" ([document, position, value] of top, quantile and random active
    contexts and of places where the rule holds and the latent is silent; all from report). scores: detection.

    Raises WrongSubject where dictionary, subject and store do not belong together; BadInput for latents out of range or
    when a split has no document.
    """
    check_subject(dictionary, subject, store)
    wanted = _wanted(dictionary, latents)
    work = _Work(dictionary, subject, store, documents, seed, contexts, most, above)
    alive = [latent for latent in wanted if work.enough[latent]]
    aim, space = Aim(beta, part_price, token_price), Space.of(work.propose.text)
    found = []
    with one_thread():
        for number, latent in enumerate(alive):
            if stop_requested():
                raise Interrupted(f"Stopped after {number} of {len(alive)} latents; nothing was saved: run it again.")
            progress(number, len(alive), "latents explained")
            found.append(_explained(latent, work, space, aim, leaves, beam, len(wanted), len(alive)))
        progress(len(alive), len(alive), "latents explained")
        judged = work.judged(found)
    found = [replace(one, scores=(judged[one.latent],)) for one in found if one.latent in judged]
    return sorted(found, key=lambda one: -float(one.evidence["select"]))  # type: ignore[arg-type]


def _explained(latent: int, work: "_Work", space: Space, aim: Aim, leaves: int, beam: int, asked: int, alive: int) -> Explanation:
    """Steps 2 and 3 for one latent, and the evidence from report."""
    target = target_active(work.propose, latent, work.above)
    drawn = space.draw(target, most=work.most, seed=work.seed * 1_000_003 + latent)
    search = Search(space, drawn, aim, beam)
    proposals = [one.rule for one in search.run(leaves, keep=4) if one.rule is not None]
    rule, score = _select(proposals, work.select, target_active(work.select, latent, work.above), aim)
    tried = {"asked": asked, "explained": alive, "candidates": search.tried, "compared": len(proposals)}
    kept = {"tried": tried, "select": score, "splits": work.sizes(latent), **evidence(latent, rule, work.report, work.seed)}
    text = f"fires on {rule.sentence()}"
    exact = replace(aim, beta=1.0)
    level = strength(space, drawn, work.propose, latent, exact)
    if level > 0 and (strong := _strongest(latent, level, work, space, exact, rule, beam)) is not None:
        kept["strongest"] = strong
        text += f"; most strongly on {strong['rule'].sentence()}"
    return Explanation(latent, text, "rules", rule, kept)


def _strongest(latent: int, level: float, work: "_Work", space: Space, aim: Aim, rule: Predicate, beam: int) -> dict | None:
    """The rule for the activations above `level`; None where `rule` tells them as well."""
    drawn = space.draw(target_above(work.propose, latent, level), most=work.most, seed=work.seed * 1_000_003 + latent)
    proposals = [one.rule for one in Search(space, drawn, aim, beam).run(2, keep=4) if one.rule is not None]
    target = target_above(work.select, latent, level)
    found, worth = _select([rule, *proposals], work.select, target, aim)
    if found == rule or not len(target.active):
        return None
    strong = target_above(work.report, latent, level)
    says = found.holds(work.report.text)
    hits = int(says[strong.active].sum())
    return {
        "rule": found,
        "above": level,
        "select": worth,
        "active": len(strong.active),
        "recall": hits / max(1, len(strong.active)),
        "precision": hits / max(1, int(says.sum())),
    }


def _wanted(dictionary: Dictionary, latents: Sequence[int] | None) -> list[int]:
    wanted = list(range(dictionary.n_latents)) if latents is None else list(latents)
    if wanted and not 0 <= min(wanted) <= max(wanted) < dictionary.n_latents:
        raise BadInput(f"Latents {min(wanted)} to {max(wanted)} asked for; the dictionary has 0 to {dictionary.n_latents - 1}.")
    return wanted


class _Work:
    """The three splits, encoded."""

    def __init__(
        self,
        dictionary: Dictionary,
        subject: Subject,
        store: Store,
        documents: Iterable[int] | None,
        seed: int,
        contexts: int,
        most: int,
        above: float,
    ):
        allowed = set(store.documents) if documents is None else set(documents)
        splits = [[number for number in part if number in allowed] for part in split_documents(store, 3, seed=seed)]
        if not all(splits):
            raise BadInput(
                f"{len(allowed)} documents given, split {' + '.join(str(len(part)) for part in splits)}; propose, select and "
                "report each need some. Capture more documents, or cut the text into smaller ones."
            )
        text = TokenText.of(store, subject)
        self.propose, self.select, self.report = (Reading.of(dictionary, store, text, part) for part in splits)
        self.readings = {"propose": self.propose, "select": self.select, "report": self.report}
        self.dictionary, self.subject, self.store = dictionary, subject, store
        self.least, self.most, self.above, self.seed = contexts, most, above, seed
        self.enough = torch.ones(dictionary.n_latents, dtype=torch.bool)
        for reading in self.readings.values():
            self.enough &= (reading.counts >= contexts) & (reading.counts <= len(reading.text) - contexts)

    def judged(self, found: list[Explanation]) -> Mapping[int, Score]:
        drawn = {"contexts": self.least, "most": self.most, "above": self.above, "seed": self.seed + 3}
        return detection(found, self.dictionary, self.subject, self.store, reading=self.report, **drawn)

    def sizes(self, latent: int) -> dict[str, dict[str, int]]:
        return {
            name: {
                "documents": int(reading.document.max()) + 1,
                "rows": len(reading.text),
                "active": int(reading.counts[latent]),
            }
            for name, reading in self.readings.items()
        }


def _select(proposals: list[Predicate], reading: Reading, target: Target, aim: Aim) -> tuple[Predicate, float]:
    """The proposal worth most on other documents, less its price, and its worth there."""
    worths = [aim.worth(rule.holds(reading.text), target) for rule in proposals]
    best = max(range(len(proposals)), key=lambda number: worths[number] - aim.price(proposals[number]))
    return proposals[best], worths[best]
