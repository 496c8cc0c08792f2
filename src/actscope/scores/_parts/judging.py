"""Asking a judge what explanations say of rows: each explanation once, where its own latent is judged and where others are.

Letters: n rows, e explanations, s rows that one latent is judged on, o other explanations.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput, Interrupted
from actscope.core.explanation import Explanation
from actscope.core.judge import Judge
from actscope.core.progress import stop_requested
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.core.text import TokenText
from actscope.scores._parts.agreement import Pairs, Statistic, agreement
from actscope.scores._parts.bootstrap import resample
from actscope.scores._parts.reading import Reading, check_subject


@dataclass(frozen=True)
class Answers:
    """How likely the latent fires at its rows, as its own explanation has it and as those of other latents have it; NaN
    where the judge gave no answer."""

    own: Float[Tensor, " s"]
    others: Float[Tensor, "o s"]


def partners(explanations: Sequence[Explanation], others: int, *, seed: int) -> list[list[int]]:
    """For each explanation, the numbers of up to `others` explanations of other latents: its successors in a seeded ring,
    so that all serve about as often."""
    ring = torch.randperm(len(explanations), generator=torch.Generator().manual_seed(seed)).tolist()
    found: list[list[int]] = [[] for _ in ring]
    for place, one in enumerate(ring):
        after = ring[place + 1 :] + ring[:place]
        found[one] = [two for two in after if explanations[two].latent != explanations[one].latent][:others]
    return found


def ask(
    judge: Judge, explanations: Sequence[Explanation], rows: Sequence[Tensor], text: TokenText, *, others: int, seed: int
) -> list[Answers]:
    """What each explanation, and `others` explanations of other latents, say of rows[k], the rows of the k-th latent.

    Every explanation is one call, over all rows that it is asked about. Raises BadInput for answers that are no
    probabilities, Interrupted.
    """
    rings = partners(explanations, others, seed=seed)
    wanted = [[mine] for mine in rows]
    for number, ring in enumerate(rings):
        for other in ring:
            wanted[other].append(rows[number])
    asked, answers = [], []
    for explanation, parts in zip(explanations, wanted, strict=True):
        if stop_requested():
            raise Interrupted("Stopped while judging explanations; nothing of this score is kept. Run the same command again.")
        distinct = torch.cat(parts).unique()
        asked.append(distinct)
        answers.append(checked(judge, explanation, text, distinct))

    def told(number: int, at: Int[Tensor, " s"]) -> Float[Tensor, " s"]:
        return answers[number][torch.searchsorted(asked[number], at)]

    return [
        Answers(told(number, mine), torch.stack([told(other, mine) for other in ring]) if ring else torch.zeros(0, len(mine)))
        for number, (mine, ring) in enumerate(zip(rows, rings, strict=True))
    ]


def checked(judge: Judge, explanation: Explanation, text: TokenText, rows: Int[Tensor, " s"]) -> Float[Tensor, " s"]:
    """The judge's answers. Raises BadInput where they are not one probability, or NaN, a row."""
    answers = judge(explanation, text, rows).detach().float().cpu()
    known = answers[~answers.isnan()]
    if answers.shape != rows.shape or bool(((known < 0) | (known > 1)).any()):
        low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
        raise BadInput(
            f"The judge gave {tuple(answers.shape)} answers from {low:g} to {high:g} for {len(rows)} rows; expected one a row, "
            "from 0 to 1, or NaN for none."
        )
    return answers


def reading_of(
    dictionary: Dictionary, subject: Subject, store: Store, documents: Iterable[int] | None, reading: Reading | None
) -> Reading:
    """`reading`, or the documents encoded now. Raises WrongSubject where the three do not belong together."""
    if reading is not None:
        return reading
    check_subject(dictionary, subject, store)
    return Reading.of(dictionary, store, TokenText.of(store, subject), documents)


@dataclass(frozen=True)
class Cases:
    """Rows that one latent's explanation is judged on, what is true there (1 and 0, or its activation), and rows that are
    asked about beside them."""

    rows: Int[Tensor, " s"]
    truth: Float[Tensor, " s"]
    beside: Int[Tensor, " h"] = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))

    @staticmethod
    def of(true: Int[Tensor, " a"], false: Int[Tensor, " b"], beside: Tensor | None = None) -> "Cases":
        truth = torch.cat([torch.ones(len(true)), torch.zeros(len(false))])
        return Cases(torch.cat([true, false]), truth, false[:0] if beside is None else beside)


Parts = Callable[[int, Float[Tensor, " s"]], Mapping[str, float]]  # number of the explanation, its answers -> what to add


def judged(
    name: str,
    statistic: Statistic,
    explanations: Sequence[Explanation],
    cases: Sequence[Cases],
    reading: Reading,
    judge: Judge,
    *,
    unit: str,
    contexts: int,
    others: int,
    permutations: int,
    draws: int,
    seed: int,
    more: Parts = lambda number, answers: {},
    version: int = 1,
) -> dict[int, Score]:
    """Latent -> the score of its explanation: how well the judge's answers agree with the truth of its cases.

    A latent with fewer than `contexts` answered cases on a side (truth above 0, and not) has none. parts, beside those of
    `agreement`: active, inactive: how many; judged: rows the judge was asked about, once for each of the 1 + `others`
    explanations; unanswered: of these, for its own explanation, left out for want of an answer.
    """
    sides = [(int((one.truth > 0).sum()), int((one.truth <= 0).sum())) for one in cases]
    enough = [number for number, side in enumerate(sides) if min(side) >= contexts]
    if not enough:
        return {}
    asked = ask(
        judge, [explanations[number] for number in enough], [torch.cat([cases[n].rows, cases[n].beside]) for n in enough],
        reading.text, others=others, seed=seed,
    )  # fmt: skip
    weights = resample(int(reading.document.max()) + 1, draws=draws, seed=seed)
    found = {}
    for number, answers in zip(enough, asked, strict=True):
        one, latent = cases[number], explanations[number].latent
        document = reading.document[one.rows]
        own = Pairs(answers.own[: len(one.rows)], one.truth, document)
        theirs = [Pairs(told[: len(one.rows)], one.truth, document) for told in answers.others]
        known = own.answered().truth > 0
        active, inactive = int(known.sum()), int((~known).sum())
        if min(active, inactive) < contexts:
            continue
        parts = {
            "active": float(active),
            "inactive": float(inactive),
            "judged": float(len(answers.own)),
            "unanswered": float(answers.own.isnan().sum()),
            **more(number, answers.own),
        }
        found[latent] = agreement(
            name, statistic, own, theirs, unit=unit, weights=weights, permutations=permutations, seed=seed + latent,
            parts=parts, version=version,
        )  # fmt: skip
    return found
