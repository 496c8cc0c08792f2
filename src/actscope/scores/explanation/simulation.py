"""Simulation: activations simulated from an explanation, against the true ones. Bills et al. 2023, "Language models can
explain neurons in language models"; beside the cheaper scores in Paulo et al. 2024 (arXiv:2410.13928).

    1. Draw windows of text in which the latent fires, and as many at random.
    2. A judge says of every token of every window, from the explanation alone, how likely the latent fires there: the
       simulated activation, which is known up to scale and offset.
    3. The score is the correlation of simulated and true activations over all these tokens.

Bills et al. take the windows of the strongest activations; here they are drawn among all, so that weak ones count too.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch

from actscope.core.dictionary import Dictionary
from actscope.core.explanation import Explanation
from actscope.core.judge import Judge, by_rule
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.scores._parts.agreement import correlation
from actscope.scores._parts.judging import Cases, judged, reading_of
from actscope.scores._parts.reading import Reading
from actscope.scores._parts.windows import around

__all__ = ["simulation"]


def simulation(
    explanations: Sequence[Explanation],
    dictionary: Dictionary,
    subject: Subject,
    store: Store,
    *,
    judge: Judge = by_rule,
    documents: Iterable[int] | None = None,
    reading: Reading | None = None,
    contexts: int = 50,
    windows: int = 100,
    window: int = 64,
    above: float = 0.0,
    others: int = 3,
    permutations: int = 20,
    draws: int = 2000,
    seed: int = 0,
) -> Mapping[int, Score]:
    """Correlation of the judge's answers with the latent's activations over windows of text (Bills et al. 2023).

    `windows` windows of up to `window` tokens, each around an active token (value above `above` times the largest), and as
    many around random tokens; a token in several counts once. A judge that says the same everywhere gets 0. Chance is 0.
    judge, documents, reading, others, permutations, draws, control, interval and parts: as for detection. Returns latent ->
    Score; a latent with fewer than `contexts` active tokens in these windows has none.
    """
    reading = reading_of(dictionary, subject, store, documents, reading)
    cases = []
    for one in explanations:
        drawn = reading.contexts(one.latent, most=windows, above=above, seed=seed)
        anywhere = torch.randint(len(reading.text), (windows,), generator=torch.Generator().manual_seed(seed + one.latent))
        rows = around(torch.cat([drawn.active, anywhere]), reading.text, window, seed=seed + one.latent).unique()
        active, values = reading.active(one.latent)
        truth = torch.zeros(len(reading.text)).index_put((active,), values.float())
        cases.append(Cases(rows[rows >= 0], truth[rows[rows >= 0]]))
    return judged(
        "simulation", correlation, explanations, cases, reading, judge, unit="correlation", contexts=contexts, others=others,
        permutations=permutations, draws=draws, seed=seed,
    )  # fmt: skip
