"""The statistics behind scores of explanations: closed forms, and weights that mean repetition."""

import math

import pytest
import torch

from actscope.scores._parts.agreement import (
    Pairs,
    agreement,
    auroc,
    average_precision,
    balanced_accuracy,
    correlation,
    gini,
    log_loss_saved,
    over,
    plain,
)
from actscope.scores._parts.bootstrap import resample

STATISTICS = [auroc, average_precision, balanced_accuracy, correlation, gini, log_loss_saved]


def drawn(seed: int, n: int = 60, values: int = 7) -> Pairs:
    """Told in a few values, so that there are ties; true where told is high, more often than not."""
    draw = torch.Generator().manual_seed(seed)
    told = (torch.randint(values, (n,), generator=draw) + 0.5) / values
    truth = (torch.rand(n, generator=draw) < told).float()
    return Pairs(told, truth, torch.randint(12, (n,), generator=draw))


@pytest.mark.parametrize("seed", range(5))
def test_statistics_equal_their_definitions(seed: int):
    pairs = drawn(seed)
    told, true = pairs.told.double(), pairs.truth.bool()
    wins = [float(a > b) + 0.5 * float(a == b) for a in told[true] for b in told[~true]]
    assert plain(auroc, pairs) == pytest.approx(sum(wins) / len(wins))
    assert plain(gini, pairs) == pytest.approx(2 * sum(wins) / len(wins) - 1)
    gained = 0.0
    for value in told.unique().tolist():
        above = told >= value
        gained += float((true & (told == value)).sum() / true.sum()) * float((true & above).sum() / above.sum())
    assert plain(average_precision, pairs) == pytest.approx(gained)
    assert plain(correlation, pairs) == pytest.approx(float(torch.corrcoef(torch.stack([told, true.double()]))[0, 1]))
    yes = told > 0.5
    assert plain(balanced_accuracy, pairs) == pytest.approx(
        float(yes[true].double().mean() + (~yes)[~true].double().mean()) / 2
    )
    loss = 0.5 * float(-told[true].log().mean() - (1 - told[~true]).log().mean())
    assert plain(log_loss_saved, pairs) == pytest.approx(1 - loss / math.log(2))


@pytest.mark.parametrize("statistic", STATISTICS, ids=lambda one: one.__name__)
def test_a_weight_is_a_repetition_of_the_document(statistic):
    pairs = drawn(11)
    weights = resample(12, draws=20, seed=3)
    for weight, got in zip(weights, over(statistic, pairs, weights), strict=True):
        rows = torch.repeat_interleave(torch.arange(60), weight[pairs.document].long())
        again = Pairs(pairs.told[rows], pairs.truth[rows], pairs.document[rows])
        assert float(got) == pytest.approx(float(plain(statistic, again)), nan_ok=True)


@pytest.mark.parametrize("statistic", [auroc, average_precision, gini], ids=lambda one: one.__name__)
def test_rank_statistics_do_not_depend_on_the_scale(statistic):
    pairs = drawn(5)
    bent = Pairs(torch.exp(3 * pairs.told), pairs.truth, pairs.document)
    assert plain(statistic, bent) == pytest.approx(float(plain(statistic, pairs)))


def test_what_does_not_vary_tells_nothing():
    pairs = drawn(2)
    flat = Pairs(torch.full_like(pairs.told, 0.3), pairs.truth, pairs.document)
    assert plain(correlation, flat) == 0 and plain(auroc, flat) == 0.5 and plain(balanced_accuracy, flat) == 0.5
    half = Pairs(torch.full_like(pairs.told, 0.5), pairs.truth, pairs.document)
    assert plain(log_loss_saved, half) == pytest.approx(0, abs=1e-12)


def test_rows_without_an_answer_are_left_out_of_value_interval_and_controls():
    pairs = drawn(7, n=400)
    silent = torch.arange(400) % 3 == 0
    holed = Pairs(torch.where(silent, torch.nan, pairs.told), pairs.truth, pairs.document)
    rest = Pairs(pairs.told[~silent], pairs.truth[~silent], pairs.document[~silent])
    made = [
        agreement(
            "x", auroc, one, [one], unit="u", weights=resample(12, draws=200), permutations=5, seed=0, parts={}
        )
        for one in (holed, rest)
    ]  # fmt: skip
    assert made[0] == made[1]
    assert made[0].parts["over_other_low"] == made[0].parts["over_other_high"] == 0  # the other says the same
    assert abs(made[0].control - 0.5) < 0.1 < made[0].value - 0.5


def test_another_explanation_without_an_answer_is_no_control():
    pairs = drawn(4, n=200)
    nothing = Pairs(torch.full_like(pairs.told, torch.nan), pairs.truth, pairs.document)
    settings = {"unit": "u", "weights": resample(12, draws=200), "permutations": 5, "seed": 0, "parts": {}}
    assert "other" not in agreement("x", auroc, pairs, [nothing], **settings).parts
    both = agreement("x", auroc, pairs, [nothing, pairs], **settings)
    assert both.parts["other"] == both.value
