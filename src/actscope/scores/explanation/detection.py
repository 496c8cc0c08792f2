"""Detection: does what a latent is said to mean tell where it fires?"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from actscope.core.dictionary import Dictionary
from actscope.core.explanation import Explanation
from actscope.core.judge import Judge, by_rule
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.core.text import TokenText
from actscope.scores._parts.bootstrap import interval, ratios
from actscope.scores._parts.reading import Contexts, Reading, balanced_accuracy, check_subject

__all__ = ["detection"]


def detection(
    explanations: Sequence[Explanation],
    dictionary: Dictionary,
    subject: Subject,
    store: Store,
    *,
    documents: Iterable[int] | None = None,
    reading: Reading | None = None,
    contexts: int = 200,
    most: int = 1000,
    above: float = 0.0,
    permutations: int = 20,
    draws: int = 2000,
    seed: int = 0,
    judge: Judge = by_rule,
) -> Mapping[int, Score]:
    """Balanced accuracy of each explanation at telling active contexts from inactive ones (arXiv:2410.13928).

    A context is one token with all that stands before it. Active: the latent's value is above `above` times its largest
    on these documents (0: any activation at all, weak ones too). Inactive: a random token where it is silent, as is
    usual in the field. Up to `most` of each are drawn, without repetition. The value is the mean of recall (over
    the active) and specificity (over the inactive); chance is 0.5.

    control: the same with the labels of these contexts permuted, mean over `permutations`. interval: bootstrap over
    documents. parts: recall; specificity; precision at the frequency of the text (all rows); hard: the balanced
    accuracy when each inactive context has the same token as an active one (a rule about the token alone gets 0.5
    there), present where there are at least half of `contexts` such; hard_contexts; permuted_low, permuted_high: the
    extreme permutations; active, inactive, documents: how many.

    documents: those to judge on, which no step that made the explanation may have seen (None: all of the store).
    reading: the same documents already encoded. Returns latent -> Score; a latent with fewer than `contexts` on a side
    has none. judge: who guesses from the explanation where the latent fires: above one half it does. Another than by_rule is
    asked about the contexts alone, so that there is no precision; those without a guess are left out (parts: unanswered).
    Raises BadInput for an explanation without a rule and no judge.
    """
    if reading is None:
        check_subject(dictionary, subject, store)
        reading = Reading.of(dictionary, store, TokenText.of(store, subject), documents)
    found, sums, counts = [], [], []
    for explanation in explanations:
        drawn = reading.contexts(explanation.latent, most=most, above=above, seed=seed)
        if min(len(drawn.active), len(drawn.random)) < contexts:
            continue
        says, drawn, unanswered = _guessed(explanation, judge, drawn, reading)
        if min(len(drawn.active), len(drawn.random)) < contexts:
            continue
        hits, all_active = _per_document(says, drawn.active, reading)
        quiet, all_silent = _per_document(~says, drawn.random, reading)
        sums += [hits, quiet]
        counts += [all_active, all_silent]
        found.append((explanation.latent, says, drawn, unanswered))
    if not found:
        return {}
    shares = ratios(torch.stack(sums, 1), torch.stack(counts, 1), draws=draws, seed=seed)
    resampled = shares.view(draws, -1, 2).mean(2)
    return {
        latent: _score(latent, says, drawn, unanswered, reading, resampled[:, number], contexts, permutations, seed)
        for number, (latent, says, drawn, unanswered) in enumerate(found)
    }


def _guessed(
    explanation: Explanation, judge: Judge, drawn: Contexts, reading: Reading
) -> tuple[Bool[Tensor, " n"], Contexts, int | None]:
    """(where it says that the latent fires, the contexts it guessed at, how many others there were; None by rule)."""
    if judge is by_rule and explanation.rule is not None:
        return explanation.rule.holds(reading.text), drawn, None
    likely = torch.full((len(reading.text),), torch.nan)
    likely[drawn.rows] = judge(explanation, reading.text, drawn.rows)
    kinds = [rows[~likely[rows].isnan()] for rows in (drawn.active, drawn.random, drawn.hard)]
    return likely > 0.5, Contexts(*kinds), len(drawn.rows) - sum(map(len, kinds))


def _per_document(
    mask: Bool[Tensor, " n"], rows: Int[Tensor, " s"], reading: Reading
) -> tuple[Float[Tensor, " g"], Float[Tensor, " g"]]:
    """How many of `rows` lie in each document of the reading, and in how many of them `mask` holds."""
    documents, place = int(reading.document.max()) + 1, reading.document[rows]
    return torch.bincount(place[mask[rows]], minlength=documents).double(), torch.bincount(place, minlength=documents).double()


def _score(
    latent: int,
    says: Bool[Tensor, " n"],
    drawn: Contexts,
    unanswered: int | None,
    reading: Reading,
    resampled: Float[Tensor, " r"],
    contexts: int,
    permutations: int,
    seed: int,
) -> Score:
    hits, false, hard = says[drawn.active], says[drawn.random], says[drawn.hard]
    permuted = _permuted(hits, false, permutations, seed + latent)
    rows, _ = reading.active(latent)
    named = torch.cat([drawn.active, drawn.random])
    parts = {
        "recall": float(hits.float().mean()),
        "specificity": 1 - float(false.float().mean()),
        "hard_contexts": float(len(hard)),
        "permuted_low": float(permuted.min()),
        "permuted_high": float(permuted.max()),
        "active": float(len(hits)),
        "inactive": float(len(false)),
        "documents": float(len(reading.text.where[named, 0].unique())),
    }
    if unanswered is None:
        parts["precision"] = float(says[rows].sum()) / max(1, int(says.sum()))
    else:
        parts["unanswered"] = float(unanswered)
    if 2 * len(hard) >= contexts:
        parts["hard"] = balanced_accuracy(hits, hard)
    return Score(
        name="detection",
        definition="detection@1",
        value=balanced_accuracy(hits, false),
        unit="balanced accuracy",
        better="higher",
        n=len(named),
        interval=interval(resampled),
        control=float(permuted.mean()),
        parts=parts,
    )


def _permuted(hits: Bool[Tensor, " a"], false: Bool[Tensor, " b"], times: int, seed: int) -> Float[Tensor, " times"]:
    """The balanced accuracy under permuted labels."""
    said = torch.cat([hits, false]).float()
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(times, len(said), generator=generator).argsort(1)
    shuffled = said[order]
    return 0.5 * (shuffled[:, : len(hits)].mean(1) + 1 - shuffled[:, len(hits) :].mean(1))
