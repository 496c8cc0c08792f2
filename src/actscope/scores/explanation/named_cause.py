"""Does an explanation name the cause that the truth says its latent has?"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput
from actscope.core.explanation import Explanation
from actscope.core.labels import Labels
from actscope.core.predicate import Predicate
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.core.text import TokenText
from actscope.scores._parts.bootstrap import interval, ratios
from actscope.scores._parts.detectors import f1
from actscope.scores._parts.reading import Reading, check_subject

__all__ = ["named_cause"]


def named_cause(
    explanations: Sequence[Explanation],
    dictionary: Dictionary,
    subject: Subject,
    store: Store,
    labels: Labels,
    *,
    choose: Iterable[int],
    report: Iterable[int],
    clear: float = 0.8,
    same: float = 0.95,
    least: int = 50,
    permutations: int = 100,
    draws: int = 2000,
    seed: int = 0,
) -> Score:
    """Of the latents whose cause is known, the share whose rule tells that cause better than any other.

    1. On the documents `choose`: a latent's cause is the label that it tells at the highest F1, above the best threshold on
       its activation. Labels that hold on fewer than `least` rows of either set of documents take no part.
    2. On the documents `report`: a latent takes part when it tells that label at an F1 of `clear` or more.
    3. There too: F1 of its rule with every label. The rule names the cause when the label of the highest F1 is the cause, or
       one that the text never tells apart from it: on `choose`, an F1 of the two labels with each other of at least `same`.
       As the cause is one of the activations above a threshold, the rule is that of the strongest activations where the
       explanation has one (evidence["strongest"]["rule"]), else its own.

    value: the share named. control: with the rule of another latent that takes part, mean over `permutations`. n: latents.
    interval: bootstrap over causes, because latents of one cause are not independent. parts: "own_rule" (the share named by
    the rules for all activations), "strict" (only the cause itself counts), "rule_f1" (mean F1 of rules with causes),
    "truth_f1" (of latents with causes), "causes", "explained", and "cause:NAME", the share of a cause's latents that name it.

    choose may hold the documents on which rules were found; report must not. Raises BadInput when the two overlap, when an
    explanation has no rule, and when no label or no latent takes part.
    """
    chosen, tested = sorted(set(choose)), sorted(set(report))
    if shared := set(chosen) & set(tested):
        raise BadInput(f"{len(shared)} documents are both in `choose` and in `report`; expected none in common.")
    check_subject(dictionary, subject, store)
    text = TokenText.of(store, subject)
    fitting, holding = (Reading.of(dictionary, store, text, part) for part in (chosen, tested))
    truth = _Truth.of(labels, fitting, holding, least)
    found = [truth.told(one.latent) for one in explanations]
    kept = [number for number, (_, told) in enumerate(found) if told >= clear]
    if not kept:
        raise BadInput(f"None of {len(found)} latents tells a label at an F1 of {clear}; explain others, or lower `clear`.")
    rules = [[pick(explanations[number]) for number in kept] for pick in (_strongest, _rule)]
    judged = _Judged(torch.tensor([found[number][0] for number in kept]), *map(truth.agree, rules))
    parts = {"truth_f1": sum(found[number][1] for number in kept) / len(kept), "explained": float(len(found))}
    return _score(truth, judged, same, parts, permutations, draws, seed)


class _Judged(NamedTuple):
    causes: Int[Tensor, " r"]  # numbers of labels
    agree: Float[Tensor, "r l"]  # F1 of the rules with the labels
    own: Float[Tensor, "r l"]  # of the rules for all activations


def _score(
    truth: "_Truth", judged: _Judged, same: float, parts: dict[str, float], permutations: int, draws: int, seed: int
) -> Score:
    causes, agree, own = judged
    twins, alone = truth.alike(causes, same), functional.one_hot(causes, len(truth.names)).bool()
    named = _named(agree, twins)
    draw = torch.Generator().manual_seed(seed)
    moved = [_named(agree[_moved(len(causes), draw)], twins).mean() for _ in range(permutations)]
    shares = _by_cause(named, causes)
    several = len(shares) > 1
    each = {f"cause:{truth.names[i]}": float(named[causes == i].mean()) for i in causes.unique().tolist()}
    return Score(
        name="named_cause",
        definition="named_cause@1",
        value=float(named.mean()),
        unit="share of latents",
        better="higher",
        n=len(causes),
        interval=interval(ratios(shares[:, :1], shares[:, 1:], draws=draws, seed=seed)[:, 0]) if several else None,
        control=float(torch.stack(moved).mean()) if several else None,
        parts={
            "own_rule": float(_named(own, twins).mean()),
            "strict": float(_named(agree, alone).mean()),
            "rule_f1": float(agree[torch.arange(len(causes)), causes].mean()),
            "causes": float(len(each)),
            **parts,
            **each,
        },
    )


@dataclass(frozen=True)
class _Truth:
    """What holds where: on the documents that causes are chosen on, and on those that are reported."""

    names: list[str]
    fitting: Reading
    holding: Reading
    known: Bool[Tensor, "l n"]
    held: Bool[Tensor, "l k"]

    @staticmethod
    def of(labels: Labels, fitting: Reading, holding: Reading, least: int) -> "_Truth":
        known, held = labels.at(fitting.text.where), labels.at(holding.text.where)
        names = [name for name in labels.causes if min(int(known[name].sum()), int(held[name].sum())) >= least]
        if not names:
            raise BadInput(f"None of the {len(labels.causes)} labels holds on {least} rows of both sets; give more documents.")
        return _Truth(names, fitting, holding, *(torch.stack([at[name] for name in names]) for at in (known, held)))

    def told(self, latent: int) -> tuple[int, float]:
        """(label, F1 on report) of the label and threshold of the highest F1 on choose."""
        rows, values = self.fitting.active(latent)
        if not len(rows):
            return 0, 0.0
        order = values.argsort(descending=True, stable=True)
        hits = self.known[:, rows[order]].double().cumsum(1)  # what is named by the 1, 2, 3... strongest
        score = f1(hits, torch.arange(1, len(order) + 1), self.known.sum(1, keepdim=True))
        cause, place = divmod(int(score.argmax()), len(order))
        rows, heights = self.holding.active(latent)
        rows = rows[heights >= values[order[place]]]
        return cause, float(f1(self.held[cause, rows].sum(), torch.tensor(len(rows)), self.held[cause].sum()))

    def agree(self, rules: Sequence[Predicate]) -> Float[Tensor, "r l"]:
        """F1 of every rule with every label, on report."""
        return _f1s(torch.stack([rule.holds(self.holding.text) for rule in rules]), self.held)

    def alike(self, causes: Int[Tensor, " r"], same: float) -> Bool[Tensor, "r l"]:
        """Which labels are each cause: itself, and those that agree with it at `same` or more on choose."""
        twins = _f1s(self.known[causes], self.known) >= same
        twins[torch.arange(len(causes)), causes] = True
        return twins


def _named(agree: Float[Tensor, "r l"], right: Bool[Tensor, "r l"]) -> Float[Tensor, " r"]:
    """1 where the label of the highest F1 is a right one."""
    best = agree.max(1)
    return (right.gather(1, best.indices[:, None])[:, 0] & (best.values > 0)).double()


def _rule(explanation: Explanation) -> Predicate:
    if explanation.rule is None:
        raise BadInput(f"The explanation of latent {explanation.latent} has no rule; expected one, as `rules` makes.")
    return explanation.rule


def _strongest(explanation: Explanation) -> Predicate:
    found = explanation.evidence.get("strongest")
    return found["rule"] if isinstance(found, dict) else _rule(explanation)


def _f1s(says: Bool[Tensor, "r n"], truth: Bool[Tensor, "l n"]) -> Float[Tensor, "r l"]:
    return f1(says.float() @ truth.float().T, says.sum(1)[:, None], truth.sum(1))


def _moved(size: int, draw: torch.Generator) -> Int[Tensor, " r"]:
    """A permutation that leaves none in its place."""
    order = torch.randperm(size, generator=draw)
    moved = torch.empty_like(order)
    moved[order] = order.roll(1)
    return moved


def _by_cause(named: Float[Tensor, " r"], causes: Int[Tensor, " r"]) -> Float[Tensor, "g 2"]:
    """(latents that name it, latents) of every cause."""
    _, place = causes.unique(return_inverse=True)
    sums = torch.zeros(int(place.max()) + 1, 2, dtype=torch.float64)
    return sums.index_add_(0, place, torch.stack([named, torch.ones_like(named)], 1))
