"""The spectrum of representations. Garrido et al. 2022, "RankMe" (arXiv:2210.02885); Agrawal et al. 2022, "alpha-ReQ"
(NeurIPS); over training, Li et al. 2025, "Tracing the Representation Geometry of Language Models" (arXiv:2509.23024).

1. One pass: the covariance C of a site's rows, all tokens of text or each document's last one.
2. sigma_i = sqrt(lambda_i(C)), the singular values of the centred rows up to a factor; p_i = sigma_i / sum sigma.
3. RankMe = exp(-sum p_i log p_i): between 1 (a line) and d (a ball).
4. alpha: lambda_i falls as i^-alpha; the slope of log lambda_i over log i by least squares, between two ranks.
5. Intervals: documents are dealt into 20 groups; each is left out once (the delete-a-group jackknife), for a spectrum is no
   mean over documents. Covariances of groups are summed as the text is read, so memory does not grow with it.

Letters: n rows, d width, g groups.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from actscope.core.errors import BadInput
from actscope.core.score import Score
from actscope.core.site import Site, resolve
from actscope.core.subject import Subject
from actscope.scores._parts.cost import Cost
from actscope.scores._parts.passages import Passage, Passages, layers, read
from actscope.scores._parts.spectrum import alpha_of, rankme_of, spectrum_of

__all__ = ["geometry"]

COST = Cost("one pass", forward=1)
_GROUPS = 20
_T19 = 2.093  # Student's t, two-sided 95%, 19 degrees of freedom


def geometry(
    subject: Subject,
    passages: Passages,
    *,
    sites: Sequence[str | Site] | None = None,
    rows: Literal["all", "last"] = "all",
    ranks: tuple[int, int] | None = None,
    seed: int = 0,
) -> list[Score]:
    """RankMe and alpha: "rankme:SITE" and "alpha:SITE" of every site, those of the last one first without a site (Garrido et
    al. 2022, arXiv:2210.02885; Agrawal et al. 2022).

    sites: with a vector a token (None: the stream after every layer); Li et al. 2025 take "final_norm". rows: all tokens of
    text, or the last of each sequence, as they do. ranks: the first and last one that alpha is fitted on, counted from 1; d/16
    to d/2 when left out. Control of RankMe: the same with every coordinate shuffled over rows, whose covariance is C's
    diagonal; of alpha: the same. A spectrum of fewer than 3 positive eigenvalues there has no alpha. seed: deals documents into
    groups. parts: rows; of_eigenvalues (RankMe with lambda in place of sigma); top (share of variance along the first
    direction); r2 of alpha's fit. Raises BadInput for fewer rows than 2, UnknownSite, NotFinite.
    """
    places = layers(subject, "resid_post") if sites is None else resolve(sites, subject.sites, subject.missing)
    sums: dict[str, list[Tensor]] = {}
    for batch in passages:
        acts = read(subject, batch, places)
        kept = batch.text if rows == "all" else _last(batch)
        group = _dealt(batch.where[kept][:, 0], seed)
        for site in places:
            _add(sums, str(site), acts[site][kept].double(), group)
    counts = next(iter(sums.values()))[0]
    if float(counts.sum()) < 2:
        raise BadInput(f"{passages.name} gives {int(counts.sum())} rows; a covariance needs at least 2.")
    found = [_scores(str(site), sums[str(site)], ranks) for site in places]
    final = [replace(score, name=score.name.partition(":")[0]) for score in found[-1]]
    return [*final, *(score for one in found for score in one)]


def _last(batch: Passage) -> Tensor:
    """The last token of text of every sequence."""
    place = torch.where(batch.text, torch.arange(batch.text.shape[1]), -1)
    return batch.text & (place == place.max(1, keepdim=True).values)


def _dealt(documents: Tensor, seed: int) -> Tensor:
    """The group of each document: as even as their numbers, in an order of the seed's."""
    order = torch.randperm(_GROUPS, generator=torch.Generator().manual_seed(seed))
    return order[documents % _GROUPS]


def _add(sums: dict[str, list[Tensor]], name: str, x: Float[Tensor, "n d"], group: Tensor) -> None:
    """Add rows to each group's count, sum and sum of products."""
    d = x.shape[1]
    if name not in sums:
        sums[name] = [torch.zeros(size, dtype=torch.float64) for size in ((_GROUPS,), (_GROUPS, d), (_GROUPS, d, d))]
    count, first, second = sums[name]
    for number in group.unique().tolist():
        here = x[group == number]
        count[number] += len(here)
        first[number] += here.sum(0)
        second[number] += here.T @ here


def _scores(site: str, sums: list[Tensor], ranks: tuple[int, int] | None) -> list[Score]:
    """RankMe and alpha of one site."""
    count, first, second = sums
    total = (count.sum(), first.sum(0), second.sum(0))
    covariance = _covariance(*total)
    spectrum, shuffled = spectrum_of(covariance), covariance.diagonal().sort(descending=True).values
    without = [
        spectrum_of(_covariance(total[0] - count[g], total[1] - first[g], total[2] - second[g]))
        for g in range(_GROUPS)
        if count[g] > 0 and total[0] - count[g] >= 2
    ]
    n, rank = int(total[0]), rankme_of(spectrum)
    parts = {"rows": float(n), "of_eigenvalues": rankme_of(spectrum.square()), "top": float(spectrum[0] / spectrum.sum())}
    slope, r2 = alpha_of(spectrum, ranks)
    rankme = Score(
        f"rankme:{site}", "rankme@1", rank, f"of {len(spectrum)} dimensions", "neither", n,
        _jackknife(rank, [rankme_of(one) for one in without]), rankme_of(shuffled), parts,
    )  # fmt: skip
    if math.isnan(slope):
        return [rankme]
    chance, spread = alpha_of(shuffled, ranks)[0], _jackknife(slope, [alpha_of(one, ranks)[0] for one in without])
    control = None if math.isnan(chance) else chance
    alpha = Score(f"alpha:{site}", "alpha_req@1", slope, "power-law exponent", "neither", n, spread, control, {"r2": r2})
    return [rankme, alpha]


def _covariance(n: Tensor, first: Float[Tensor, " d"], second: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    mean = first / n
    return second / n - mean[:, None] * mean


def _jackknife(whole: float, without: list[float]) -> tuple[float, float] | None:
    """The 95% interval by leaving a group out; None where fewer than all groups have rows."""
    if len(without) < _GROUPS or not all(map(math.isfinite, without)):
        return None
    x = torch.tensor(without, dtype=torch.float64)
    half = _T19 * math.sqrt((_GROUPS - 1) / _GROUPS * float((x - x.mean()).square().sum()))
    return whole - half, whole + half
