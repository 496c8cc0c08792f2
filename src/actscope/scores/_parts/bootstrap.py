"""Intervals and p-values by resampling documents, and their correction over many features.

Tokens of one document are not independent, so what is resampled is always the document, with everything in it
(Efron and Tibshirani 1993, ch. 8 and 13). A difference is paired: both sides come from the same resampled documents.
Percentile intervals from a handful of documents are too narrow; report the number of documents beside them.
Letters: n contexts, g documents, c columns (features, conditions), r resamples.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from actscope.core.errors import BadInput

DRAWS = 10_000  # the smallest two-sided p-value is 2 / (DRAWS + 1), so a Holm correction over 100 features can still reach 0.05


def by_document(values: Float[Tensor, "n c"], documents: Int[Tensor, " n"]) -> tuple[Float[Tensor, "g c"], Float[Tensor, " g"]]:
    """(sum of the values, number of contexts) of every document that occurs, in ascending order of document number."""
    names, place = documents.unique(return_inverse=True)
    sums = torch.zeros(len(names), values.shape[1], dtype=torch.float64).index_add_(0, place, values.double())
    return sums, torch.bincount(place, minlength=len(names)).double()


def resample(documents: int, *, draws: int = DRAWS, seed: int = 0) -> Float[Tensor, "r g"]:
    """How often each document is drawn in each of `draws` resamples with replacement. Raises BadInput below 2 documents."""
    if documents < 2:
        raise BadInput(f"{documents} document given; an interval over documents needs at least 2. Give more text.")
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(documents, (draws, documents), generator=generator)
    return torch.zeros(draws, documents, dtype=torch.float64).scatter_add_(1, drawn, torch.ones(1).double().expand(drawn.shape))


def ratios(
    sums: Float[Tensor, "g c"], counts: Float[Tensor, "g c"], *, draws: int = DRAWS, seed: int = 0
) -> Float[Tensor, "r c"]:
    """Each column's pooled mean (its sums over its counts) in every resample; NaN where a resample holds none of it.

    All columns see the same resamples, so differences and averages of columns are paired.
    """
    weights = resample(len(sums), draws=draws, seed=seed)
    return (weights @ sums.double()) / (weights @ counts.double())


def paired(
    feature: Float[Tensor, " n"],
    control: Float[Tensor, " n"],
    documents: Int[Tensor, " n"],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Float[Tensor, " r"]:
    """The mean of (feature - control) over contexts in every resample of documents.

    `control` may be the mean over several controls at the same context. Raises BadInput below 2 documents.
    """
    sums, counts = by_document((feature.double() - control.double())[:, None], documents)
    return ratios(sums, counts[:, None], draws=draws, seed=seed)[:, 0]


def interval(resampled: Float[Tensor, " r"], level: float = 0.95) -> tuple[float, float]:
    """The percentile interval that holds `level` of the resampled values; NaN resamples are left out.

    Raises BadInput when there are too few resamples for the level asked for.
    """
    kept = resampled[resampled.isfinite()].double().sort().values
    tail = (1 - level) / 2
    if len(kept) * tail < 1:
        raise BadInput(f"{len(kept)} resamples given; a {level:.5%} interval needs at least {1 / tail:.0f}. Raise draws=.")
    low, high = torch.quantile(kept, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high


def p_value(resampled: Float[Tensor, " r"], null: float = 0.0) -> float:
    """Two-sided: twice the share of resamples on the rarer side of `null`, at least 2 / (resamples + 1)."""
    kept = resampled[resampled.isfinite()]
    rarer = min(int((kept <= null).sum()), int((kept >= null).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(kept) + 1))


def holm(p_values: Float[Tensor, " c"]) -> Float[Tensor, " c"]:
    """P-values corrected over all features reported (Holm 1979), in the order given: each is believed when at most alpha."""
    order = p_values.argsort()
    left = torch.arange(len(p_values), 0, -1, dtype=p_values.dtype)
    corrected = (p_values[order] * left).cummax(0).values.clamp(max=1.0)
    return torch.empty_like(p_values).scatter_(0, order, corrected)


def holm_levels(p_values: Float[Tensor, " c"], level: float = 0.95) -> Float[Tensor, " c"]:
    """The level at which to draw each feature's own interval so that it excludes the null when Holm's test believes it.

    Holm's step-down: the features believed get 1 - (1 - level) / (features still in question at their step); the
    others share the level of the step at which the test stopped.
    """
    order = p_values.argsort()
    left = torch.arange(len(p_values), 0, -1, dtype=p_values.dtype)
    believed = (p_values[order] * left <= 1 - level).to(torch.long).cumprod(0).bool()
    if not believed.all():
        left[~believed] = left[~believed].max()
    return torch.empty_like(p_values).scatter_(0, order, 1 - (1 - level) / left)
