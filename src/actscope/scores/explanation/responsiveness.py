"""Responsiveness: does a latent fire more where its explanation holds than elsewhere? Puri et al. 2025, "FADE: Why Bad
Descriptions Happen to Good Features" (arXiv:2502.16994).

    1. Sample stretches of natural text, one in ten of them those in which the latent fires most.
    2. A judge rates each, given the explanation alone: it holds what is explained, it does not, or that is unclear. A
       sample's activation is the latent's largest in it.
    3. The score is the Gini coefficient, 2 AUROC - 1, of the activations of samples that hold it against those that do not.

The paper takes the Gini's size; its sign is kept here, for a latent that is silent where it is said to fire is not explained.
"""

from collections.abc import Iterable, Mapping, Sequence

from actscope.core.dictionary import Dictionary
from actscope.core.explanation import Explanation
from actscope.core.judge import Judge, by_rule
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.scores._parts.agreement import gini
from actscope.scores._parts.judging import reading_of
from actscope.scores._parts.rated import rated
from actscope.scores._parts.reading import Reading

__all__ = ["responsiveness"]


def responsiveness(
    explanations: Sequence[Explanation],
    dictionary: Dictionary,
    subject: Subject,
    store: Store,
    *,
    judge: Judge = by_rule,
    documents: Iterable[int] | None = None,
    reading: Reading | None = None,
    samples: int = 500,
    window: int = 32,
    top: float = 0.1,
    unclear: tuple[float, float] = (1 / 3, 2 / 3),
    contexts: int = 15,
    others: int = 3,
    permutations: int = 20,
    draws: int = 1000,
    seed: int = 0,
) -> Mapping[int, Score]:
    """Gini coefficient of activations in text that holds what is explained, against text that does not (arXiv:2502.16994).

    samples: stretches of up to `window` tokens, `top` of them where the latent fires most. A sample's rating is the judge's
    highest answer at its tokens: above `unclear` it holds what is explained, below it does not. Chance is 0.
    judge, documents, reading, others, permutations, draws, control, interval, other, judged and unanswered: as for
    detection. parts: holding, not_holding, unclear: samples. Returns latent -> Score; a latent with fewer than
    `contexts` samples that hold what is explained, or that do not, has none.
    """
    reading = reading_of(dictionary, subject, store, documents, reading)
    return rated(
        "responsiveness", gini, explanations, reading, judge, unit="Gini", samples=samples, window=window,
        top=top, unclear=unclear, contexts=contexts, others=others, permutations=permutations, draws=draws, seed=seed,
    )  # fmt: skip
