"""Explain latents by rules over the tokens around their activations; no language model takes part.

The scheme propose, select, report keeps the last documents untouched until the rule is fixed. The search is in the
spirit of decision lists and of neuron explanation by compositional concepts (arXiv:2006.14032), with a vocabulary about
text that is general: token sets, neighbours, spelling, layout, place, repetition, delimiters, earlier words.

1. The documents are split in three by a hash of their ids (`split_documents(store, 3, seed=seed)`): propose, select, report.
2. On propose, for each latent: a beam search over "and", "and not", "or" of candidate rules for the highest F-beta at the
   frequency of the text, less a price for every part and every token listed, so that of two rules that tell as well the one
   that is shorter to say is taken (minimum description length, with prices set for readers and not in bits).
3. On select, other documents decide among the best of each length.
4. A sparse latent often fires strongly on one thing and faintly on many. Where one condition tells the activations above some
   share of the peak best of all, the same search on those alone says what the latent fires on most strongly.
5. On report, the rule chosen is judged once, by detection with its control.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from actscope.core.dictionary import Dictionary
from actscope.core.errors import Interrupted
from actscope.core.explanation import Explanation
from actscope.core.predicate import Predicate
from actscope.core.progress import Progress, quiet, stop_requested
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.explainers._parts.evidence import evidence
from actscope.explainers._parts.search import Aim, Search, Space, Target, one_thread
from actscope.explainers._parts.splits import Splits
from actscope.explainers._parts.strength import strength, target_above, target_active
from actscope.scores._parts.reading import Reading

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
    beta: float = 2.5,
    leaves: int = 3,
    beam: int = 6,
    part_price: float = 0.02,
    token_price: float = 0.003,
    tokens: int | None = None,
    seed: int = 0,
    progress: Progress = quiet,
) -> list[Explanation]:
    """A rule for every latent that has enough contexts, best on the select documents first.

    latents: which to explain (None: all). documents: which to use, best those the dictionary was not trained on (None:
    all of the store); each latent needs `contexts` active and inactive contexts in each of the three splits, else it is
    left out and only counted. most: active rows drawn, with about three times as many silent ones; contexts of each kind
    judged. above: a context is active when the value is above this share of the latent's largest; 0, the default, counts
    every activation, weak ones too.
    beta: how much more recall counts than precision; at 1 they count alike, at a high value the search finds what balanced
    accuracy asks for, rules that name nearly all activations and may fire several times as often as the latent. leaves: the
    most parts a rule has. part_price, token_price: the F-beta that one more part, one more token listed, must gain. tokens:
    the most that a rule lists in all its parts (None: as many as gain their price).

    evidence: "tried" (latents asked for, latents explained, candidates scored for this latent, how many were compared on
    select), "select" (F-beta on select), "splits" (documents, rows and active contexts of each), "density", "peak",
    "top_tokens", "examples" ([document, position, value] of top, quantile and random active contexts and of places where
    the rule holds and the latent is silent; all from report), and where the strong activations are told better by a rule of
    their own "strongest": "rule", "above" (the value), and on report "active" (rows), "recall", "precision" (any other row
    is a false alarm). scores: detection.

    Raises WrongSubject where dictionary, subject and store do not belong together; BadInput for latents out of range or
    when a split has no document.
    """
    work = Splits.of(dictionary, subject, store, documents, latents, contexts=contexts, most=most, above=above, seed=seed)
    finder = _Finder(work, Aim(beta, part_price, token_price, tokens), leaves, beam)
    found = []
    with one_thread():
        for number, latent in enumerate(work.alive):
            if stop_requested():
                raise Interrupted(f"Stopped after {number} of {len(work.alive)} latents; nothing was saved: run it again.")
            progress(number, len(work.alive), "latents explained")
            found.append(finder.explained(latent))
        progress(len(work.alive), len(work.alive), "latents explained")
        judged = work.judged(found)
    found = [replace(one, scores=(judged[one.latent],)) for one in found if one.latent in judged]
    return sorted(found, key=lambda one: -float(one.evidence["select"]))  # type: ignore[arg-type]


class _Finder:
    """Steps 2 to 4 for one latent after another."""

    def __init__(self, work: Splits, aim: Aim, leaves: int, beam: int):
        self.work, self.aim, self.leaves, self.beam = work, aim, leaves, beam
        self.exact = replace(aim, beta=1.0)  # the strong activations are few, and nothing else is to be named with them
        self.space = Space.of(work.propose.text)

    def explained(self, latent: int) -> Explanation:
        work = self.work
        target = target_active(work.propose, latent, work.above)
        drawn = self._drawn(target, latent)
        search = Search(self.space, drawn, self.aim, self.beam)
        proposals = [one.rule for one in search.run(self.leaves, keep=3) if one.rule is not None]
        rule, score = _select(proposals, work.select, target_active(work.select, latent, work.above), self.aim)
        kept = {
            "tried": {
                "asked": len(work.wanted),
                "explained": len(work.alive),
                "candidates": search.tried,
                "compared": len(proposals),
            },
            "select": score,
            "splits": work.sizes(latent),
            **evidence(latent, rule, work.report, work.seed),
        }
        text = f"fires on {rule.sentence()}"
        level = strength(self.space, drawn, target, work.propose, latent, self.exact)
        if level > 0 and (strong := self._strongest(latent, level, rule)) is not None:
            text += f"; most strongly on {strong.sentence()}"
            kept["strongest"] = {"rule": strong, "above": level, **self._told(strong, latent, level)}
        return Explanation(latent, text, "rules", rule, kept)

    def _drawn(self, target: Target, latent: int):
        return self.space.draw(target, most=self.work.most, seed=self.work.seed * 1_000_003 + latent)

    def _strongest(self, latent: int, level: float, rule: Predicate) -> Predicate | None:
        """The rule for the activations above `level`; None where `rule` tells them as well."""
        drawn = self._drawn(target_above(self.work.propose, latent, level), latent)
        found = Search(self.space, drawn, self.exact, self.beam).run(2, keep=2)
        proposals = [rule, *(one.rule for one in found if one.rule is not None)]
        target = target_above(self.work.select, latent, level)
        strong, _ = _select(proposals, self.work.select, target, self.exact)
        return None if strong == rule or not len(target.active) else strong

    def _told(self, rule: Predicate, latent: int, level: float) -> dict[str, float | int]:
        """How well a rule tells the activations above `level` on report."""
        strong, says = target_above(self.work.report, latent, level).active, rule.holds(self.work.report.text)
        hits = int(says[strong].sum())
        return {
            "active": len(strong),
            "recall": hits / max(1, len(strong)),
            "precision": hits / max(1, int(says.sum())),
        }


def _select(proposals: Sequence[Predicate], reading: Reading, target: Target, aim: Aim) -> tuple[Predicate, float]:
    """The proposal worth most on other documents, less its price, and its worth there."""
    worths = [aim.worth(rule.holds(reading.text), target) for rule in proposals]
    best = max(range(len(proposals)), key=lambda number: worths[number] - aim.price(proposals[number]))
    return proposals[best], worths[best]
