"""truth_recovery finds what is there, nothing where nothing is, and never looks at the test documents."""

import pytest
import torch
from fakes import SITE, Linear, Projections, Rows, labels_where

from actscope.core.errors import BadInput
from actscope.core.store import split_documents
from actscope.scores._parts.columns import Columns
from actscope.scores._parts.detectors import auroc, best_detectors, f1
from actscope.scores.dictionary.truth_recovery import truth_recovery

N, D = 4000, 6


def made(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise, and a label that holds on a tenth of the rows, independent of it."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(N, D, generator=generator), torch.rand(N, generator=generator) < 0.1


def identity() -> Linear:
    return Linear(torch.eye(D), torch.eye(D), torch.zeros(D))


def test_a_latent_that_is_the_label_is_found():
    x, holds = made()
    x[:, 3] = holds * (1 + x[:, 3].abs()) - (~holds) * 0.5
    store = Rows({SITE: x})
    score = truth_recovery(identity(), store, labels_where(store, planted=holds))
    assert score.value == 1 and score.interval == (1.0, 1.0) and score.n == 1
    assert score.parts["latent:planted"] == 3 and score.parts["sign:planted"] == 1
    assert score.parts["f1:planted"] == 1 and score.parts["auroc:planted"] == 1


def test_noise_reaches_the_control_and_no_more():
    x, holds = made()
    store = Rows({SITE: x})
    score = truth_recovery(Projections(D), store, labels_where(store, absent=holds))
    base = score.parts["base:absent"]
    assert score.control == pytest.approx(2 * base / (1 + base))
    assert score.value == pytest.approx(score.control, abs=0.04)
    assert score.parts["auroc:absent"] == pytest.approx(0.5, abs=0.05)


def test_a_flipped_column_is_as_good():
    x, holds = made()
    x[:, 2] = x[:, 2] - 6.0 * holds
    store = Rows({SITE: x})
    labels = labels_where(store, low=holds)
    score = truth_recovery(Projections(D), store, labels)
    up = truth_recovery(Projections(D), Rows({SITE: -x}), labels)
    assert score.value > 0.95 and score.parts["sign:low"] == -1 and score.parts["auroc:low"] > 0.99
    assert up.parts["sign:low"] == 1 and up.value == score.value


def test_columns_and_thresholds_come_from_the_choosing_documents_alone():
    """Column 0 is the label on the choosing half and noise on the other; column 1 the reverse. Looking at the test
    documents would find column 1, or a threshold that does better."""
    x, holds = made()
    store = Rows({SITE: x})
    choose, test = split_documents(store, 2)
    first = torch.isin(store.where[:, 0], torch.tensor(choose))
    x[:, 0] += 8.0 * (holds & first)
    x[:, 1] += 8.0 * (holds & ~first)
    score = truth_recovery(Projections(D), Rows({SITE: x}), labels_where(store, half=holds))
    assert score.parts["latent:half"] == 0 and score.value < 0.3
    seen = truth_recovery(Projections(D), Rows({SITE: x}), labels_where(store, half=holds), choose=test, test=choose)
    assert seen.parts["latent:half"] == 1 and seen.value < 0.3


def test_the_threshold_does_not_move_with_the_test_documents():
    x, holds = made()
    x[:, 0] += 4.0 * holds
    store = Rows({SITE: x})
    choose, test = split_documents(store, 2)
    moved = x.clone()
    moved[torch.isin(store.where[:, 0], torch.tensor(test)), 0] += 20.0  # now every test row is above the threshold
    labels = labels_where(store, cause=holds)
    base = truth_recovery(Projections(D), store, labels).parts["base:cause"]
    assert truth_recovery(Projections(D), Rows({SITE: moved}), labels).value == pytest.approx(2 * base / (1 + base))


def test_documents_in_both_halves_are_refused():
    x, holds = made()
    store = Rows({SITE: x})
    with pytest.raises(BadInput, match="none in common"):
        truth_recovery(Projections(D), store, labels_where(store, cause=holds), choose=[1, 2], test=[2, 3])


def test_rare_labels_are_left_out_and_listed():
    x, holds = made()
    store = Rows({SITE: x})
    rare = torch.arange(N) < 30
    score = truth_recovery(Projections(D), store, labels_where(store, common=holds, rare=rare, always=torch.ones(N) > 0))
    assert score.n == 1 and "f1:rare" not in score.parts
    assert score.parts["left_out:rare"] < 50 and score.parts["left_out:always"] == 0
    with pytest.raises(BadInput, match="None of the 1 labels"):
        truth_recovery(Projections(D), store, labels_where(store, rare=rare))


def test_the_search_is_the_exhaustive_one():
    """Over every column, sign and threshold, by brute force."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(300, 20, generator=generator)
    x[:, 10:] = x[:, 10:].clamp(min=0.8) - 0.8  # half of them sparse, with ties at zero
    truth = torch.stack([x[:, i] + torch.randn(300, generator=generator) > 1 for i in (0, 7, 12)] + [x[:, 15] == 0])
    columns = Columns(torch.zeros(300, 2, dtype=torch.long), 20, dense=x)
    full, screened = (best_detectors(columns, truth, candidates=candidates) for candidates in (40, 6))
    for whole, few, holds in zip(full, screened, truth, strict=True):
        every = [one_f1(s * x[:, c] >= s * t, holds) for c in range(20) for s in (1, -1) for t in x[:, c].unique()]
        assert one_f1(whole.says(x[:, whole.column]), holds) == pytest.approx(max(every), abs=1e-6)
        assert one_f1(few.says(x[:, few.column]), holds) >= max(every) - 0.02


def one_f1(said: torch.Tensor, holds: torch.Tensor) -> float:
    return float(f1((said & holds).sum(), said.sum(), holds.sum()))


def test_auroc_counts_ties_one_half():
    holds = torch.tensor([True, True, False, False])
    assert auroc(torch.tensor([1.0, 2.0, 0.0, 0.5]), holds) == 1
    assert auroc(torch.tensor([0.0, 0.0, 0.0, 0.0]), holds) == 0.5
    assert auroc(torch.tensor([1.0, 0.0, 1.0, 0.0]), holds) == 0.5
    assert auroc(torch.tensor([2.0, 0.0, 1.0, 0.0]), holds) == 0.625


def test_sparse_codes_and_their_dense_form_give_the_same_columns():
    x = made()[0] - 1.5
    store = Rows({SITE: x})
    sparse = Columns.of(identity(), store, [0, 5, 9])
    assert sparse.dense is None and len(sparse.where) == 30
    rows = torch.isin(store.where[:, 0], torch.tensor([0, 5, 9]))
    assert torch.equal(sparse.take(torch.arange(D)), x[rows].clamp(min=0).T)
    assert torch.equal(Columns.of(Projections(D), store, [0, 5, 9]).take(torch.tensor([4, 1])), x[rows][:, [4, 1]].T)


def test_the_interval_covers_repeated_worlds():
    """A column that says the label with 80% recall and some false alarms: the interval from one world holds the value
    of most others."""
    values, interval = [], None
    for seed in range(8):
        x, holds = made(seed)
        x[:, 0] += 3.0 * holds
        store = Rows({SITE: x})
        score = truth_recovery(Projections(D), store, labels_where(store, cause=holds))
        values.append(score.value)
        interval = score.interval or interval
    inside = sum(interval[0] <= value <= interval[1] for value in values)
    assert inside >= 5 and interval[1] - interval[0] < 0.2
