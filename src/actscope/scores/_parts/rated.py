"""Samples of natural text rated by a judge, against how strongly the latent fires in them: FADE's responsiveness and purity.

Letters: n rows, w windows, s samples.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from actscope.core.explanation import Explanation
from actscope.core.judge import Judge
from actscope.core.score import Score
from actscope.scores._parts.agreement import Pairs, Statistic, agreement
from actscope.scores._parts.bootstrap import resample
from actscope.scores._parts.judging import ask
from actscope.scores._parts.reading import Reading


def windows_of(reading: Reading, size: int) -> Int[Tensor, " n"]:
    """For each row the number of its window: consecutive stretches of `size` tokens of every sequence."""
    text = reading.text
    inside = text.row - text.start
    return (text.start * len(text) + inside // size).unique(return_inverse=True)[1]


def strongest(reading: Reading, latent: int, window: Int[Tensor, " n"]) -> Float[Tensor, " w"]:
    """The latent's largest activation in each window."""
    rows, values = reading.active(latent)
    found = torch.zeros(int(window.max()) + 1)
    return found.scatter_reduce_(0, window[rows], values.float(), "amax")


def rated(
    name: str,
    statistic: Statistic,
    explanations: Sequence[Explanation],
    reading: Reading,
    judge: Judge,
    *,
    unit: str,
    samples: int,
    window: int,
    top: float,
    unclear: tuple[float, float],
    contexts: int,
    others: int,
    permutations: int,
    draws: int,
    seed: int,
) -> dict[int, Score]:
    """Latent -> the statistic of its activation in samples that the judge says hold what is explained, against samples that
    do not.

    1. Sample windows of text: `top` of `samples` are those in which the latent fires most, the others are random.
    2. A sample's rating is the judge's highest answer in it. Above `unclear` it holds what is explained, below it does not,
       between it is left out.
    3. Its activation is the latent's largest in it.
    """
    number = windows_of(reading, window)
    order = number.argsort(stable=True)
    counts = torch.bincount(number)
    begin = counts.cumsum(0) - counts
    document = reading.document[order[begin]]
    chosen = [_sampled(strongest(reading, one.latent, number), samples, top, seed + one.latent) for one in explanations]
    rows = [torch.cat([order[begin[w] : begin[w] + counts[w]] for w in one.tolist()]) for one in chosen]
    asked = ask(judge, explanations, rows, reading.text, others=others, seed=seed)
    weights = resample(int(reading.document.max()) + 1, draws=draws, seed=seed)
    found = {}
    for explanation, mine, here, answers in zip(explanations, chosen, rows, asked, strict=True):
        place = torch.repeat_interleave(torch.arange(len(mine)), counts[mine])
        told = strongest(reading, explanation.latent, number)[mine]
        ratings = [_highest(one, place, len(mine)) for one in (answers.own, *answers.others)]
        own, *theirs = (_clear(rating, told, document[mine], unclear) for rating in ratings)
        if not _both(own, contexts):
            continue
        parts = {
            "holding": float(own.truth.sum()),
            "not_holding": float((1 - own.truth).sum()),
            "unclear": float(ratings[0].isfinite().sum()) - len(own.truth),
            "judged": float(len(here)),
            "unanswered": float(ratings[0].isnan().sum()),
        }
        found[explanation.latent] = agreement(
            name, statistic, own, [one for one in theirs if _both(one, 1)], unit=unit, weights=weights,
            permutations=permutations, seed=seed + explanation.latent, parts=parts,
        )  # fmt: skip
    return found


def _sampled(peak: Float[Tensor, " w"], samples: int, top: float, seed: int) -> Int[Tensor, " s"]:
    first = peak.argsort(descending=True)[: int(top * samples)]
    order = torch.randperm(len(peak), generator=torch.Generator().manual_seed(seed))
    return torch.cat([first, order[~torch.isin(order, first)]])[:samples]


def _highest(answers: Float[Tensor, " r"], place: Int[Tensor, " r"], samples: int) -> Float[Tensor, " s"]:
    """The highest answer of each sample; NaN where there is none."""
    found = torch.full((samples,), -1.0).scatter_reduce_(0, place, answers.nan_to_num(-1.0), "amax")
    return torch.where(found < 0, torch.nan, found)


def _clear(
    rating: Float[Tensor, " s"], told: Float[Tensor, " s"], document: Int[Tensor, " s"], unclear: tuple[float, float]
) -> Pairs:
    kept = (rating < unclear[0]) | (rating > unclear[1])
    return Pairs(told[kept], (rating[kept] > unclear[1]).float(), document[kept])


def _both(pairs: Pairs, least: int) -> bool:
    return min(int(pairs.truth.sum()), int((1 - pairs.truth).sum())) >= least
