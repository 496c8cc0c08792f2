"""Log loss: how much an explanation lowers the cost of saying where a latent fires. A proper score of the judge's
probabilities (Good 1952, "Rational decisions"), which a threshold throws away.

    1. Draw contexts in which the latent fires and contexts in which it is silent, as for detection.
    2. A judge says of each, given the explanation alone, how likely the latent fires.
    3. The score is 1 less the mean log loss of its answers over log 2, the loss of knowing nothing, both sides weighing the
       same.

This is no surprisal score of Paulo et al. 2024 (arXiv:2410.13928): what is predicted is that the latent fires, not the text.
"""

from collections.abc import Iterable, Mapping, Sequence

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput
from actscope.core.explanation import Explanation
from actscope.core.judge import Judge, by_rule
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.scores._parts.agreement import Pairs, log_loss_saved
from actscope.scores._parts.judging import Cases, judged, reading_of
from actscope.scores._parts.reading import Reading

__all__ = ["log_loss"]


def log_loss(
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
    sure: float = 0.98,
    others: int = 3,
    permutations: int = 20,
    draws: int = 2000,
    seed: int = 0,
) -> Mapping[int, Score]:
    """The share of the log loss of firing, in balanced contexts, that the judge's answers save.

    sure: answers are brought into 1 - sure..sure, so that one confident mistake costs what it costs there and not all. 1
    at best, less what `sure` costs; 0 for a judge that always says 1/2; below 0 for one that is sure and wrong. judge,
    documents, reading, contexts, most, above, others, permutations, draws, control, interval and parts: as for detection.
    Returns latent -> Score. Raises BadInput for `sure` outside 0.5..1.
    """
    if not 0.5 < sure < 1:
        raise BadInput(f"sure={sure:g} given; expected a probability above 0.5 and below 1.")
    reading = reading_of(dictionary, subject, store, documents, reading)
    drawn = [reading.contexts(one.latent, most=most, above=above, seed=seed) for one in explanations]

    def saved(pairs, weights):
        return log_loss_saved(Pairs(pairs.told.clamp(1 - sure, sure), pairs.truth, pairs.document), weights)

    return judged(
        "log_loss", saved, explanations, [Cases.of(one.active, one.random) for one in drawn], reading, judge,
        unit="share of log 2", contexts=contexts, others=others, permutations=permutations, draws=draws, seed=seed,
    )  # fmt: skip
