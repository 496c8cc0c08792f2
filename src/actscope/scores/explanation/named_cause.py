"""Does a rule name the cause that the truth says its latent has?"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput
from actscope.core.explanation import Explanation
from actscope.core.labels import Labels
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

    1. On the documents `choose`, a latent's cause is the label, with the threshold on its activation, of the highest F1.
       Labels that hold on fewer than `least` rows of either set of documents take no part.
    2. On the documents `report`, a latent takes part when that detector's F1 with its cause is at least `clear`.
    3. There too, the rule's own F1 with every label. The rule names the cause when no label has a higher one, or when
       the label that has is the same by construction: where one holds the other does, on all documents but for an F1
       with each other of at least `same` (a rule cannot tell apart what the text never does).

    value: the share named. control: with the rule of another latent that takes part, mean over `permutations`. n: latents.
    interval: bootstrap over causes, as latents of one cause are not independent. parts: "strict" (only the cause itself
    counts), "rule_f1" (the rules' mean F1 with the causes), "truth_f1" (the detectors'), "causes", "explained", and
    "cause:NAME", the share of a cause's latents that name it.

    choose may hold the documents that rules were found on; report must not. Raises BadInput when the two overlap, when an
    explanation has no rule, and when no latent takes part.
    """
    chosen, tested = sorted(set(choose)), sorted(set(report))
    if shared := set(chosen) & set(tested):
        raise BadInput(f"{len(shared)} documents are both in `choose` and in `report`; expected none in common.")
    if without := [one.latent for one in explanations if one.rule is None]:
        raise BadInput(f"The explanation of latent {without[0]} has no rule; expected one, as `rules` makes.")
    check_subject(dictionary, subject, store)
    text = TokenText.of(store, subject)
    fitting, holding = (Reading.of(dictionary, store, text, part) for part in (chosen, tested))
    known, held = labels.at(fitting.text.where), labels.at(holding.text.where)
    names = [name for name in labels.causes if min(int(known[name].sum()), int(held[name].sum())) >= least]
    if not names:
        raise BadInput(f"None of the {len(labels.causes)} labels holds on {least} rows of both sets; give more documents.")
    truth, truth_report = (torch.stack([at[name] for name in names]) for at in (known, held))
    found = [_of(one.latent, fitting, holding, truth, truth_report) for one in explanations]
    kept = [number for number, one in enumerate(found) if one.f1 >= clear]
    if not kept:
        raise BadInput(f"No latent of the {len(found)} explained tells a label at F1 {clear}; explain others, or lower `clear`.")
    causes = torch.tensor([found[number].cause for number in kept])
    says = torch.stack([explanations[number].rule.holds(holding.text) for number in kept])  # type: ignore[union-attr]
    agree = _f1s(says, truth_report)
    twins = _f1s(truth, truth) >= same
    named, strict = _named(agree, causes, twins), _named(agree, causes, torch.eye(len(names), dtype=torch.bool))
    draw = torch.Generator().manual_seed(seed)
    chance = [_named(agree[_moved(len(kept), draw)], causes, twins).mean() for _ in range(permutations)] if len(kept) > 1 else []
    shares = _by_cause(named, causes)
    resampled = ratios(shares[:, :1], shares[:, 1:], draws=draws, seed=seed)[:, 0] if len(shares) > 1 else None
    each = {f"cause:{names[i]}": float(named[causes == i].mean()) for i in causes.unique().tolist()}
    return Score(
        name="named_cause",
        definition="named_cause@1",
        value=float(named.mean()),
        unit="share of latents",
        better="higher",
        n=len(kept),
        interval=None if resampled is None else interval(resampled),
        control=float(torch.stack(chance).mean()) if chance else None,
        parts={
            "strict": float(strict.mean()),
            "rule_f1": float(agree[torch.arange(len(kept)), causes].mean()),
            "truth_f1": sum(found[number].f1 for number in kept) / len(kept),
            "causes": float(len(each)),
            "explained": float(len(found)),
            **each,
        },
    )


class _Cause(NamedTuple):
    cause: int
    f1: float  # on the report documents


def _of(latent: int, fitting: Reading, holding: Reading, truth: Tensor, truth_report: Tensor) -> _Cause:
    """Step 1 and 2: the label and threshold of the highest F1, and its F1 on other documents."""
    rows, values = fitting.active(latent)
    if not len(rows):
        return _Cause(0, 0.0)
    order = values.argsort(descending=True)
    hits = truth[:, rows[order]].double().cumsum(1)  # says yes at and above each value
    score = f1(hits, torch.arange(1, len(order) + 1), truth.sum(1, keepdim=True))
    cause, place = divmod(int(score.argmax()), len(order))
    rows, values = holding.active(latent), None
    says = rows[0][rows[1] >= float(fitting.active(latent)[1][order[place]])]
    hit = truth_report[cause, says].sum()
    return _Cause(cause, float(f1(hit, torch.tensor(len(says)), truth_report[cause].sum())))


def _f1s(says: Bool[Tensor, "r n"], truth: Bool[Tensor, "l n"]) -> Float[Tensor, "r l"]:
    return f1(says.float() @ truth.float().T, says.sum(1)[:, None], truth.sum(1))


def _named(agree: Float[Tensor, "r l"], causes: Int[Tensor, " r"], twins: Bool[Tensor, "l l"]) -> Float[Tensor, " r"]:
    """1 where the label with the highest F1 is the latent's cause or the same."""
    best = agree.max(1)
    return (twins[causes, best.indices] & (best.values > 0)).double()


def _moved(size: int, draw: torch.Generator) -> Int[Tensor, " r"]:
    """A permutation that leaves none in place."""
    order = torch.randperm(size, generator=draw)
    moved = torch.empty_like(order)
    moved[order] = order.roll(1)
    return moved


def _by_cause(named: Float[Tensor, " r"], causes: Int[Tensor, " r"]) -> Float[Tensor, "g 2"]:
    """(latents that name it, latents) of every cause."""
    _, place = causes.unique(return_inverse=True)
    sums = torch.zeros(int(place.max()) + 1, 2, dtype=torch.float64)
    return sums.index_add_(0, place, torch.stack([named, torch.ones_like(named)], 1))
