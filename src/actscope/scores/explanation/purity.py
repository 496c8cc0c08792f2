"""Purity: does a latent fire for nothing but what its explanation says? Puri et al. 2025, "FADE: Why Bad
Descriptions Happen to Good Features" (arXiv:2502.16994).

    1. Sample stretches of natural text, one in ten of them those in which the latent fires most.
    2. A judge rates each, given the explanation alone: it holds what is explained, it does not, or that is unclear. A
       sample's activation is the latent's largest in it.
    3. The score is the average precision of finding the samples that hold it by the latent's activation.

Low purity beside high responsiveness: the latent means this and more. Chance is the share of samples that hold it.
"""

from collections.abc import Iterable, Mapping, Sequence

from actscope.core.dictionary import Dictionary
from actscope.core.explanation import Explanation
from actscope.core.judge import Judge, by_rule
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.scores._parts.agreement import average_precision
from actscope.scores._parts.judging import reading_of
from actscope.scores._parts.rated import rated
from actscope.scores._parts.reading import Reading

__all__ = ["purity"]


def purity(
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
    """Average precision of finding text that holds what is explained by the latent's activation (arXiv:2502.16994).

    samples: stretches of up to `window` tokens, `top` of them where the latent fires most. A sample's rating is the judge's
    highest answer at its tokens: above `unclear` it holds what is explained, below it does not. Chance is the
    share of samples that hold it, as the control shows.
    judge, documents, reading, others, permutations, draws, control, interval, other, judged and unanswered: as for
    detection. parts: holding, not_holding, unclear: samples. Returns latent -> Score; a latent with fewer than
    `contexts` samples that hold what is explained, or that do not, has none.
    """
    reading = reading_of(dictionary, subject, store, documents, reading)
    return rated(
        "purity", average_precision, explanations, reading, judge, unit="average precision", samples=samples, window=window,
        top=top, unclear=unclear, contexts=contexts, others=others, permutations=permutations, draws=draws, seed=seed,
    )  # fmt: skip
