"""Detection: does what a latent is said to mean tell where it fires? Paulo, Mallen, Juang and Belrose 2024, "Automatically
Interpreting Millions of Features in Large Language Models" (arXiv:2410.13928), section on detection scoring.

    1. Draw contexts in which the latent fires and contexts in which it is silent.
    2. Ask a judge, of each, whether the latent fires, given the explanation alone.
    3. The score is the balanced accuracy of its answers.

The paper asks about stretches of text, anywhere in which the latent may fire; here about the last token of each.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from actscope.core.dictionary import Dictionary
from actscope.core.explanation import Explanation
from actscope.core.judge import Judge, by_rule
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.scores._parts.agreement import Pairs, balanced_accuracy, plain
from actscope.scores._parts.judging import Cases, judged, reading_of
from actscope.scores._parts.reading import Contexts, Reading

__all__ = ["detection"]


def detection(
    explanations: Sequence[Explanation],
    dictionary: Dictionary,
    subject: Subject,
    store: Store,
    *,
    judge: Judge = by_rule,
    documents: Iterable[int] | None = None,
    reading: Reading | None = None,
    contexts: int = 200,
    most: int = 1000,
    above: float = 0.0,
    others: int = 3,
    permutations: int = 20,
    draws: int = 2000,
    seed: int = 0,
) -> Mapping[int, Score]:
    """Balanced accuracy of a judge at telling active contexts from inactive ones by each explanation (arXiv:2410.13928).

    A context is one token with all that stands before it. Active: the latent's value is above `above` times its largest
    on these documents (0: any activation at all, weak ones too). Inactive: a random token where it is silent, as is
    usual in the field. Up to `most` of each are drawn, without repetition. The judge says yes above 0.5; the value is the
    mean of recall (over the active) and specificity (over the inactive); chance is 0.5.

    control: the same with the labels of these contexts permuted, mean over `permutations`. interval: bootstrap over
    documents. parts: recall; specificity; precision at the frequency of the text (over all rows by rule, from recall and
    specificity with another judge); hard: the balanced accuracy when each inactive context has the same token as an active
    one (a rule about the token alone gets 0.5 there), present where there are at least half of `contexts` such;
    hard_contexts; other: the same contexts judged by up to `others` explanations of other latents, mean, where there are
    such; over_other_low, over_other_high: the interval of value - other; permuted_low, permuted_high: the extreme
    permutations; active, inactive, documents: how many; judged: contexts the judge was asked about (once for each of the
    1 + `others` explanations); unanswered: of these, for its own explanation, left out for want of an answer.

    documents: those to judge on, which no step that made the explanation may have seen (None: all of the store).
    reading: the same documents already encoded. Returns latent -> Score; a latent with fewer than `contexts` answered on a
    side has none. Raises BadInput for an explanation without a rule, where the judge needs one.
    """
    reading = reading_of(dictionary, subject, store, documents, reading)
    drawn = [reading.contexts(one.latent, most=most, above=above, seed=seed) for one in explanations]

    def more(number: int, answers: Tensor) -> dict[str, float]:
        return _parts(explanations[number], drawn[number], answers, reading, contexts, exact=judge is by_rule)

    return judged(
        "detection", balanced_accuracy, explanations, [Cases.of(one.active, one.random, one.hard) for one in drawn], reading,
        judge, unit="balanced accuracy", contexts=contexts, others=others, permutations=permutations, draws=draws, seed=seed,
        more=more,
    )  # fmt: skip


def _parts(
    explanation: Explanation, drawn: Contexts, answers: Tensor, reading: Reading, contexts: int, *, exact: bool
) -> dict[str, float]:
    """What the answers say by themselves. exact: the rule is asked of every row for its precision."""
    active, random, hard = answers.split([len(drawn.active), len(drawn.random), len(drawn.hard)])
    recall, alarms = _share(active), _share(random)
    rows, _ = reading.active(explanation.latent)
    if exact:
        says = by_rule(explanation, reading.text, reading.text.row)
        precision = float(says[rows].sum()) / max(1, int(says.sum()))
    else:
        true, false = recall * len(rows), alarms * (len(reading.text) - len(rows))
        precision = true / max(true + false, 1e-12)
    parts = {
        "recall": recall,
        "specificity": 1 - alarms,
        "precision": precision,
        "hard_contexts": float((~hard.isnan()).sum()),
    }
    if 2 * parts["hard_contexts"] >= contexts:
        truth = torch.cat([torch.ones(len(active)), torch.zeros(len(hard))])
        pairs = Pairs(torch.cat([active, hard]), truth, torch.zeros(len(truth), dtype=torch.long))
        parts["hard"] = float(plain(balanced_accuracy, pairs.answered()))
    return parts


def _share(answers: Tensor) -> float:
    """The share of answers that say yes."""
    known = answers[~answers.isnan()]
    return float((known > 0.5).float().mean())
