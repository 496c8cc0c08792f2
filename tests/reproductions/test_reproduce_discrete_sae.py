"""The reproduction of O'Neill and Bui 2024 on a small scale: its figures mean what they say."""

import pytest
import torch

import actscope as act
from actscope.reproductions.discrete_sae import RIVALS, asked, discrete_sae, effects, unique


@pytest.fixture(scope="module")
def pocket():
    return act.load("pocket")


@pytest.mark.parametrize("task", ["ioi", "greater_than", "docstring"])
def test_the_model_prefers_right_answers_and_on_twins_it_does_less(pocket, task: str):
    prompts, twins = asked(pocket, task, 12, seed=0, split="test")
    assert len(prompts.right) == 12 and not (prompts.right & prompts.wrong).any()
    assert prompts.right.any(1).all() and prompts.wrong.any(1).all()
    clean, corrupted = (one.margins(pocket.run(one.inputs).logits) for one in (prompts, twins))
    assert (clean > 0).float().mean() > 0.9 and clean.mean() > corrupted.mean() + 0.5


def test_few_heads_make_the_behaviour_and_most_do_not(pocket):
    lost = effects(pocket, "ioi", 20)
    assert len(lost) == 16 and lost.max() > 0.5
    assert (lost.abs() < 0.1).float().mean() > 0.5


def test_a_score_is_the_share_of_codes_that_no_other_row_has():
    codes = torch.tensor([[1, 1, 5], [2, 1, 5], [3, 2, 6], [3, 2, 5]])
    positive = torch.tensor([True, True, False, False])
    assert unique(codes, positive).tolist() == pytest.approx([2 / 3, 1 / 2, 0])
    assert unique(codes, ~positive).tolist() == pytest.approx([1 / 3, 1 / 2, 1 / 2])


def test_mixed_up_prompts_tell_nothing():
    result = discrete_sae(seeds=(0,), judged=12, rounds=5)
    mean = {name: values[0] for name, values in result.figures.items()}
    assert result.ours == mean["codes"] and result.control == mean["mixed up"]
    assert result.baseline == max(mean[rival] for rival in RIVALS)
    assert all(0 <= mean[name] <= 1 for name in ("codes", "mixed up", "not trained", *RIVALS))
    assert 0.3 < result.control < 0.7
    assert result.full is None and result.seconds > 0 and set(result.inputs) == {"subject"}
