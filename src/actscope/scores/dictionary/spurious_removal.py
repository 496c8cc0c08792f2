"""Can a probe be freed of what it learned by coincidence, by removing latents? SHIFT of Marks et al. 2024 (arXiv:2403.19647),
as SAEBench scores it (Karvonen et al. 2025, arXiv:2503.09532).

    1. A probe for the label learns from rows where label and coincidence both hold or both fail: it cannot tell them apart.
       Another learns from rows where all four cases are equally frequent: what could be known. And one for the coincidence.
    2. A latent's effect: the distance between its means where the coincidence holds and where not, times what one unit of it
       adds to the coincidence's probe, as a magnitude.
    3. The n latents of the largest effect are set to their mean over the four cases; what the dictionary misses is kept.
    4. Score: with A the accuracy on rows of the four cases in equal numbers, (A_removed - A_biased) / (A_balanced - A_biased):
       0 nothing gained, 1 as good as if the coincidence had never been, below 0 harm. May pass 1 on few rows.

SAEBench sets latents to zero in step 3 (parts "zero:"). That also moves every logit to one side of the probe's threshold, so
that a dictionary whose latents are exactly label and coincidence scores about 0.3; with the mean it scores 1.
Letters: n rows, d width, m latents, p pairs, k rows of a test.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput
from actscope.core.labels import Labels
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.scores._parts.asked import atoms_of, halves, read_rows
from actscope.scores._parts.census import rows_of
from actscope.scores._parts.columns import Columns, blocks
from actscope.scores._parts.probes import Probe, logistic
from actscope.scores._parts.totals import document_sums, totals_interval

__all__ = ["spurious_removal"]

_GAP = 0.05  # of accuracy: less than this leaves nothing to gain


def spurious_removal(
    dictionary: Dictionary,
    store: Store,
    labels: Labels,
    *,
    pairs: Sequence[tuple[str, str]],
    among: str | None = None,
    choose: Iterable[int] | None = None,
    test: Iterable[int] | None = None,
    ns: Sequence[int] = (2, 5, 10, 20, 50),
    at: int = 20,
    draws: int = 20,
    least: int = 25,
    most: int = 250,
    seed: int = 0,
) -> Score:
    """The share of the accuracy lost to a coincidence that removing `at` latents wins back, mean over pairs.

    pairs: (label, coincidence). among: a label outside of which rows do not count. Every case has up to `most` rows, as many as
    the rarest, at least `least`. choose, test: as in `sparse_probing`. parts: for every n "n:" and "zero:"; biased, balanced
    (accuracies, means); per pair "pair:label|coincidence"; left_out: pairs whose coincidence costs less than 0.05 of accuracy.
    control: as many other latents, drawn `draws` times from those active on these rows. n: pairs. Interval: bootstrap over the
    test documents. Raises BadInput for an unknown label, too few rows of a case, or when no coincidence costs anything.
    """
    groups = halves(store, choose, test, seed=seed)
    atoms, sizes = atoms_of(dictionary), sorted({*ns, at})
    judged = {}
    for pair in pairs:
        cases = [_cases(store, labels, pair, among, group, least, most, seed) for group in groups]
        found = _judge(dictionary, store, cases[0], cases[1], atoms, sizes, at, draws, seed)
        if found.right[:, 1].mean() - found.right[:, 0].mean() >= _GAP:
            judged[pair] = found
    if not judged:
        raise BadInput(
            f"None of the {len(pairs)} coincidences costs a probe {_GAP} of accuracy, so there is nothing to win back; give "
            "labels that the model has at this site and that a probe confuses."
        )
    gained = {pair: _gain(one.right.mean(0, keepdim=True))[0] for pair, one in judged.items()}
    mean = torch.stack(list(gained.values())).mean(0)
    accuracies = torch.stack([one.right.mean(0) for one in judged.values()]).mean(0).tolist()
    parts = {f"n:{n}": float(mean[1 + place]) for place, n in enumerate(sizes)}
    parts |= {f"zero:{n}": float(mean[1 + len(sizes) + place]) for place, n in enumerate(sizes)}
    parts |= {"biased": accuracies[0], "balanced": accuracies[1], "left_out": float(len(pairs) - len(judged))}
    column = 1 + sizes.index(at)
    parts |= {f"pair:{label}|{other}": float(gain[column]) for (label, other), gain in gained.items()}
    return Score(
        name="spurious_removal",
        definition="spurious_removal@1",
        value=float(mean[column]),
        unit="share of the accuracy lost",
        better="higher",
        n=len(judged),
        interval=_interval(list(judged.values()), column, seed),
        control=float(mean[0]),
        parts=parts,
    )


@dataclass(frozen=True)
class _Cases:
    """Rows of a store of the four cases in equal numbers."""

    rows: Int[Tensor, " k"]
    label: Bool[Tensor, " k"]
    other: Bool[Tensor, " k"]


@dataclass(frozen=True)
class _Judged:
    """Of every test row, whether it was told right: by the biased probe, the balanced one, the biased one with random latents
    removed (a mean), and with the first n removed, n by n; then with these at zero."""

    right: Float[Tensor, "k r"]
    documents: Int[Tensor, " k"]


def _cases(
    store: Store,
    labels: Labels,
    pair: tuple[str, str],
    among: str | None,
    documents: Sequence[int],
    least: int,
    most: int,
    seed: int,
) -> _Cases:
    if missing := {*pair, *([] if among is None else [among])} - set(labels.causes):
        raise BadInput(f"No label {', '.join(sorted(missing))}; there are {', '.join(labels.causes)}.")
    index = rows_of(store.text[1], documents)
    truth = labels.at(store.text[1][index])
    counted = torch.ones(len(index), dtype=torch.bool) if among is None else truth[among]
    label, other = truth[pair[0]], truth[pair[1]]
    cases = [(counted & (label == a) & (other == b)).nonzero()[:, 0] for a in (True, False) for b in (True, False)]
    fewest = min(map(len, cases))
    if fewest < least:
        raise BadInput(
            f"{pair[0]} and {pair[1]} have {', '.join(str(len(case)) for case in cases)} rows of both, the first, the second "
            f"and neither; expected {least} of each. Give more text, or other labels."
        )
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.cat([case[torch.randperm(len(case), generator=generator)[: min(fewest, most)]] for case in cases])
    return _Cases(index[drawn], label[drawn], other[drawn])


def _judge(
    dictionary: Dictionary,
    store: Store,
    fit: _Cases,
    hold: _Cases,
    atoms: Float[Tensor, "m d"],
    sizes: list[int],
    at: int,
    draws: int,
    seed: int,
) -> _Judged:
    x, columns = read_rows(dictionary, store, fit.rows)
    same = fit.label == fit.other
    biased, balanced, coincidence = logistic(x[same], fit.label[same]), logistic(x, fit.label), logistic(x, fit.other)
    effect = (_contrast(columns, fit.other) * (atoms @ coincidence.weight)).abs()
    best = effect.topk(min(max(sizes), len(effect)))
    chosen = best.indices[best.values > 0]
    y, held = read_rows(dictionary, store, hold.rows)
    active = torch.cat([(block != 0).any(1) for _, block in blocks(held)])
    active[chosen[:at]] = False
    pool = active.nonzero()[:, 0]
    generator = torch.Generator().manual_seed(seed)
    random = [pool[torch.randperm(len(pool), generator=generator)[: min(at, len(chosen))]] for _ in range(draws)]

    def right(probe: Probe, without: Int[Tensor, " s"], to: float = 1.0) -> Float[Tensor, " k"]:
        """to: what these latents are set to, as a multiple of their mean."""
        gone = held.take(without) - to * columns.take(without).mean(1, keepdim=True)
        return ((probe.logit(y) - gone.T @ (atoms[without] @ probe.weight) > 0) == hold.label).double()

    none = chosen[:0]
    each = [right(biased, none), right(balanced, none), torch.stack([right(biased, one) for one in random]).mean(0)]
    each += [right(biased, chosen[:n], to) for to in (1.0, 0.0) for n in sizes]
    return _Judged(torch.stack(each, dim=1), held.where[:, 0])


def _contrast(columns: Columns, holds: Bool[Tensor, " n"]) -> Float[Tensor, " m"]:
    return torch.cat([block[:, holds].mean(1) - block[:, ~holds].mean(1) for _, block in blocks(columns)])


def _gain(mean: Float[Tensor, "r c"]) -> Float[Tensor, "r e"]:
    """Step 4, of the control and of every n."""
    gap = mean[:, 1] - mean[:, 0]
    return torch.where(gap > 0, 1 / gap, torch.nan)[:, None] * (mean[:, 2:] - mean[:, :1])


def _interval(judged: list[_Judged], column: int, seed: int) -> tuple[float, float] | None:
    """Documents drawn again, all pairs together."""
    ones = [torch.cat([one.right, torch.ones(len(one.right), 1, dtype=torch.float64)], dim=1) for one in judged]
    width = ones[0].shape[1]
    rows = torch.cat(
        [torch.nn.functional.pad(one, (place * width, (len(ones) - 1 - place) * width)) for place, one in enumerate(ones)]
    )
    sums = document_sums(rows, torch.cat([one.documents for one in judged]))

    def mean(total: Float[Tensor, "r q"]) -> Float[Tensor, " r"]:
        each = [_gain(part[:, :-1] / part[:, -1:])[:, column] for part in total.split(width, dim=1)]
        return torch.stack(each).nanmean(0)

    return totals_interval(sums, mean, seed=seed)
