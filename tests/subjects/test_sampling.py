"""A token is drawn from the probabilities that the settings leave, and from nothing else."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from actscope.core.errors import BadInput
from actscope.subjects._sampling import Sampling, Streams


def obvious(logits: list[float], temperature: float, top_k: int | None, top_p: float | None) -> list[float]:
    """The same, one token at a time."""
    weights = [math.exp((each - max(logits)) / temperature) for each in logits]
    ranked = sorted(range(len(logits)), key=lambda token: -weights[token])[: top_k or len(logits)]
    total, sum_so_far, kept = sum(weights[token] for token in ranked), 0.0, []
    for token in ranked:
        if kept and top_p is not None and sum_so_far >= top_p * total:
            break
        kept.append(token)
        sum_so_far += weights[token]
    return [weights[token] / sum_so_far if token in kept else 0.0 for token in range(len(logits))]


@settings(max_examples=60, deadline=None)
@given(
    logits=st.lists(st.integers(-4000, 4000), min_size=1, max_size=12, unique=True),
    temperature=st.floats(0.05, 5),
    top_k=st.none() | st.integers(1, 14),
    top_p=st.none() | st.floats(0.01, 1),
)
def test_what_is_left_out_and_what_is_left(logits, temperature, top_k, top_p):
    values = [each / 500 for each in logits]
    found = Sampling(temperature, top_k, top_p).probabilities(torch.tensor([values], dtype=torch.float64))[0]
    expected = torch.tensor(obvious(values, temperature, top_k, top_p), dtype=torch.float64)
    edge = top_p is not None and ((found.sort(descending=True).values.cumsum(0) / found.sum() - top_p).abs() < 1e-9).any()
    if not edge:
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert found.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    "rule", [Sampling(1.0), Sampling(0.5), Sampling(2.0, top_k=5), Sampling(1.0, top_p=0.7), Sampling(1.5, 12, 0.9)]
)
def test_tokens_are_drawn_as_often_as_they_are_likely(rule: Sampling):
    """Chi-square below its 0.999 point (Wilson-Hilferty); the same draws refuse the distribution of another temperature."""
    logits = 1.5 * torch.randn(1, 20, generator=torch.Generator().manual_seed(1))
    n = 20_000
    uniform = torch.rand(n, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    counts = torch.bincount(rule.choose(logits.expand(n, -1), uniform), minlength=20).double()

    def far(chances: torch.Tensor) -> float:
        """Chi-square as a multiple of its 0.999 point."""
        some = chances * n > 5
        expected, seen = chances[some] * n, counts[some]
        freedom = int(some.sum()) - 1
        point = freedom * (1 - 2 / (9 * freedom) + 3.09 * math.sqrt(2 / (9 * freedom))) ** 3
        return float(((seen - expected) ** 2 / expected).sum()) / point

    chances = rule.probabilities(logits)[0]
    assert not counts[chances == 0].any()
    assert far(chances) < 1
    assert far(Sampling(rule.temperature * 1.3, rule.top_k, rule.top_p).probabilities(logits)[0]) > 1


def test_numbers_at_the_edges_choose_tokens_that_may_be_chosen():
    logits = torch.tensor([[-math.inf, 0.0, -math.inf, 1.0, -math.inf]])
    most = torch.tensor([1.0], dtype=torch.float64).nextafter(torch.zeros(1, dtype=torch.float64))
    assert Sampling(1.0).choose(logits, torch.zeros(1, dtype=torch.float64)).item() == 1
    assert Sampling(1.0).choose(logits, most).item() == 3


def test_temperature_near_zero_is_the_likeliest_token():
    logits = torch.randn(8, 50, generator=torch.Generator().manual_seed(3))
    uniform = torch.rand(8, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    assert torch.equal(Sampling(1e-4).choose(logits, uniform), Sampling(0.0).choose(logits, None))


def test_a_row_has_its_own_stream():
    prompts = [[1, 2], [3], [1, 2], [4, 5]]
    together, alone = Streams(prompts, 7), [Streams([prompt], 7) for prompt in prompts]
    for step in range(130):
        numbers = together.at(step, range(4))
        single = [stream.at(step, [0]).item() for stream in alone]
        assert numbers[[0, 1, 3]].tolist() == [single[0], single[1], single[3]]
        assert numbers[0] != numbers[2], "equal prompts in one batch are drawn apart"
    assert Streams(prompts, 8).at(0, range(4))[0] != Streams(prompts, 7).at(0, range(4))[0]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"temperature": -1.0}, "temperature=-1.0; expected 0"),
        ({"temperature": math.nan}, "temperature=nan"),
        ({"temperature": 1.0, "top_k": 0}, "top_k=0; expected"),
        ({"temperature": 1.0, "top_p": 0.0}, "top_p=0.0; expected"),
        ({"temperature": 1.0, "top_p": 1.5}, "top_p=1.5; expected"),
        ({"top_k": 5}, "no effect at temperature 0"),
        ({"top_p": 0.5}, "no effect at temperature 0"),
    ],
)
def test_settings_that_cannot_be(settings, says):
    with pytest.raises(BadInput, match=says):
        Sampling(**settings)
