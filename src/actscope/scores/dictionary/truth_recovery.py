"""Does some latent say what is known to be true?"""

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Bool
from torch import Tensor

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput
from actscope.core.labels import Labels
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.scores._parts.asked import halves
from actscope.scores._parts.columns import Columns
from actscope.scores._parts.detectors import Detector, auroc, best_detectors, f1
from actscope.scores._parts.totals import document_sums, totals_interval

__all__ = ["truth_recovery"]


def truth_recovery(
    dictionary: Dictionary,
    store: Store,
    labels: Labels,
    *,
    choose: Iterable[int] | None = None,
    test: Iterable[int] | None = None,
    least: int = 50,
    candidates: int = 30,
    seed: int = 0,
) -> Score:
    """The mean over labels of the F1 that the best single latent reaches on documents not used to choose it.

    1. On the rows of the documents `choose`, the column, its sign and its threshold with the highest F1 are found for
       each label, among all columns of the dictionary (codes where they were learned, projections otherwise) and both
       signs. Every dictionary gets the same search; see scores/_parts/detectors.py.
    2. F1 and AUROC of that column are measured on the rows of the documents `test`.

    choose, test: disjoint documents; by default the two halves of `split_documents(store, 2)`. Labels that hold, or
    fail to hold, on fewer than `least` rows of either are left out. parts: per label "f1:", "auroc:", "latent:",
    "sign:", "base:" (share of test rows where it holds), "left_out:" (rows in the smaller half), and "auroc", the mean.
    control: always saying yes, 2 base / (1 + base), which is what a latent unrelated to a label reaches at best.
    n: labels. Interval: bootstrap over the test documents; labels, columns and thresholds stand fixed.
    Raises BadInput for documents in both halves, and when no label is left.
    """
    chosen, tested = halves(store, choose, test, seed=seed)
    fitting = Columns.of(dictionary, store, chosen)
    holding = Columns.of(dictionary, store, tested)
    truth, truth_test = labels.at(fitting.where), labels.at(holding.where)
    rows = {cause: min(_rarer(truth[cause]), _rarer(truth_test[cause])) for cause in labels.causes}
    causes = [cause for cause, count in rows.items() if count >= least]
    if not causes:
        raise BadInput(
            f"None of the {len(rows)} labels holds on {least} rows of both halves of the store; give more rows or a "
            "lower `least`."
        )
    detectors = best_detectors(fitting, torch.stack([truth[cause] for cause in causes]), candidates=candidates)
    left_out = {f"left_out:{cause}": float(count) for cause, count in rows.items() if count < least}
    return _judge(holding, dict(zip(causes, detectors, strict=True)), truth_test, left_out, seed)


def _judge(
    columns: Columns,
    detectors: Mapping[str, Detector],
    truth: Mapping[str, Bool[Tensor, " n"]],
    left_out: Mapping[str, float],
    seed: int,
) -> Score:
    """F1 and AUROC of chosen detectors on held-out rows."""
    parts: dict[str, float] = {}
    counts, controls, areas = [], [], []
    for cause, detector in detectors.items():
        values = columns.take(torch.tensor([detector.column]))[0]
        said, holds = detector.says(values), truth[cause]
        base = float(holds.double().mean())
        counts.append(torch.stack([said & holds, said, holds], dim=1).double())
        controls.append(2 * base / (1 + base))
        areas.append(auroc(detector.sign * values, holds))
        parts |= {f"auroc:{cause}": areas[-1], f"base:{cause}": base}
        parts |= {f"latent:{cause}": float(detector.column), f"sign:{cause}": float(detector.sign)}
    sums = document_sums(torch.cat(counts, dim=1), columns.where[:, 0])
    each = _f1s(sums.sum(0, keepdim=True))[0]
    parts |= {f"f1:{cause}": value for cause, value in zip(detectors, each.tolist(), strict=True)}
    return Score(
        name="truth_recovery",
        definition="truth_recovery@1",
        value=float(each.mean()),
        unit="F1",
        better="higher",
        n=len(detectors),
        interval=totals_interval(sums, lambda total: _f1s(total).mean(1), seed=seed),
        control=sum(controls) / len(controls),
        parts={"auroc": sum(areas) / len(areas), **dict(sorted(parts.items())), **left_out},
    )


def _rarer(holds: Bool[Tensor, " n"]) -> int:
    """Rows of the rarer side."""
    yes = int(holds.sum())
    return min(yes, len(holds) - yes)


def _f1s(counts: Tensor) -> Tensor:
    """F1 of each label from columns (hits, said, true) side by side: [draws 3l] -> [draws l]."""
    hit, said, true = counts.reshape(len(counts), -1, 3).unbind(2)
    return f1(hit, said, true)
