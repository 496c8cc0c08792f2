"""EigenScore in closed form, its efficient form beside it, and answers that agree."""

import math

import pytest
import torch
from small_models import passages, sentences, subject

from actscope.core.errors import BadInput
from actscope.reproductions._parts.agreeing import agreeing, by_eigenvalues
from actscope.scores._parts.logdet import chebyshev, mean_log_eigenvalue, mean_log_eigenvalue_estimated
from actscope.scores.subject.eigenscore import eigenscore


def test_answers_that_are_one_have_one_eigenvalue_and_turning_answers_apart_raises_it():
    z = torch.tensor([[1.0, -1.0, 0.0]]).expand(5, 3)
    assert mean_log_eigenvalue(z, 1e-3) == pytest.approx((math.log(10.001) + 4 * math.log(1e-3)) / 5, rel=1e-6)
    apart = torch.tensor([[1.0, -1, 0, 0], [0, 0, 1, -1]])
    assert mean_log_eigenvalue(apart, 1e-3) == pytest.approx(math.log(2.001), rel=1e-6)
    assert mean_log_eigenvalue(apart + 7, 1e-3) == pytest.approx(math.log(2.001), rel=1e-6)  # centred over coordinates


def correlation(x: list[float], y: list[float]) -> float:
    return float(torch.corrcoef(torch.tensor([x, y]))[0, 1])


def test_the_efficient_form_follows_the_exact_one():
    shown = [agreeing(seed, 160, 240) for seed in range(20)]
    exact = [mean_log_eigenvalue(z, 1e-3) for z in shown]
    estimated = [mean_log_eigenvalue_estimated(z, 1e-3) for z in shown]
    assert correlation(exact, estimated) >= 0.95
    wide = [z[:40] for z in shown]  # fewer vectors than coordinates
    assert (
        correlation([mean_log_eigenvalue(z, 1e-3) for z in wide], [mean_log_eigenvalue_estimated(z, 1e-3) for z in wide])
        >= 0.95
    )


@pytest.mark.parametrize(("k", "d"), [(20, 50), (50, 20)])
def test_the_determinant_gives_what_all_eigenvalues_give(k, d):
    z = agreeing(0, k, d)
    assert mean_log_eigenvalue(z, 1e-3) == pytest.approx(by_eigenvalues(z, 1e-3), rel=1e-9)


def test_with_as_many_steps_as_vectors_and_many_probes_it_is_the_exact_one():
    z = agreeing(3, 12, 40)
    assert mean_log_eigenvalue_estimated(z, 1e-1, steps=12, probes=4000) == pytest.approx(mean_log_eigenvalue(z, 1e-1), abs=0.1)


def test_chebyshev_moments_follow_a_logarithm_only_where_eigenvalues_are_near_each_other():
    z = agreeing(3, 30, 200)
    assert chebyshev(z, 100.0, degree=30, probes=100) == pytest.approx(mean_log_eigenvalue(z, 100.0), abs=0.1)
    assert abs(chebyshev(z, 1e-3, degree=30, probes=100) - mean_log_eigenvalue(z, 1e-3)) > 1


def test_a_sure_model_answers_alike_and_an_unsure_one_does_not():
    small = subject()
    read = passages(small, sentences(12, words=14))
    how = {"prompt": 8, "tokens": 5, "answers": 6, "top_k": None}
    (sure,), (unsure,) = (eigenscore(small, read, temperature=t, **how) for t in (1e-3, 3.0))
    assert sure.value < unsure.value and sure.parts["high"] < 0 and sure.n == 12
    with pytest.raises(BadInput, match="longer than a prompt"):
        eigenscore(small, read, prompt=40)
