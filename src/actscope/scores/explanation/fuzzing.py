"""Fuzzing: does what a latent is said to mean tell at which tokens of a context it fires? Paulo, Mallen, Juang and Belrose
2024, "Automatically Interpreting Millions of Features in Large Language Models" (arXiv:2410.13928), fuzzing.

    1. Draw tokens at which the latent fires.
    2. Beside each, draw another token of the same stretch of text at which it is silent.
    3. Ask a judge of each, given the explanation alone, whether the latent fires at it.
    4. The score is the balanced accuracy of its answers. Both sides come from the same contexts, so an explanation that
       names their topic and not the token gets 0.5.

The paper shows a stretch with all its active tokens marked, or as many wrong ones, and asks whether the marks are right;
here one token is asked about at a time.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from actscope.core.dictionary import Dictionary
from actscope.core.explanation import Explanation
from actscope.core.judge import Judge, by_rule
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.scores._parts.agreement import balanced_accuracy
from actscope.scores._parts.judging import Cases, judged, reading_of
from actscope.scores._parts.reading import Reading
from actscope.scores._parts.windows import ends

__all__ = ["fuzzing"]

_TRIES = 16  # tokens tried beside an active one before it is left out


def fuzzing(
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
    window: int = 32,
    others: int = 3,
    permutations: int = 20,
    draws: int = 2000,
    seed: int = 0,
) -> Mapping[int, Score]:
    """Balanced accuracy at telling active tokens from silent ones of the same contexts (arXiv:2410.13928).

    Up to `most` active tokens (value above `above` times the latent's largest) are drawn, and for each a silent token at
    most window / 2 places from it in its sequence; where none is found, neither counts. judge, documents, reading,
    contexts, others, permutations, draws, control, interval and parts: as for detection. Returns latent -> Score.
    """
    reading = reading_of(dictionary, subject, store, documents, reading)
    last = ends(reading.text)
    cases = []
    for one in explanations:
        active = reading.contexts(one.latent, most=most, above=above, seed=seed).active
        silent = torch.ones(len(reading.text), dtype=torch.bool)
        silent[reading.active(one.latent)[0]] = False
        beside = _beside(active, silent, reading.text.start, last, window // 2, seed + one.latent)
        cases.append(Cases.of(active[beside >= 0], beside[beside >= 0]))
    return judged(
        "fuzzing", balanced_accuracy, explanations, cases, reading, judge, unit="balanced accuracy", contexts=contexts,
        others=others, permutations=permutations, draws=draws, seed=seed,
    )  # fmt: skip


def _beside(
    rows: Int[Tensor, " a"], silent: Tensor, start: Int[Tensor, " n"], last: Int[Tensor, " n"], reach: int, seed: int
) -> Int[Tensor, " a"]:
    """For each row a random silent one within `reach` of it in its sequence; -1 where none of the tries is silent."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.maximum(start[rows], rows - reach)
    high = torch.minimum(last[rows], rows + reach)
    chance = torch.rand(_TRIES, len(rows), generator=generator)
    tried = low + (chance * (high - low + 1)).long()
    first = silent[tried].float().argmax(0)
    chosen = tried.gather(0, first[None])[0]
    return torch.where(silent[chosen], chosen, -1)
