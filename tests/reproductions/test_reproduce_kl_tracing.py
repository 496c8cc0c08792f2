"""The reproduction of KL tracing on a small scale: its figures mean what they say."""

import pytest
import torch

import actscope as act
from actscope.organisms.moving_sprites import PALETTE, SIDE, films
from actscope.reproductions.kl_tracing import decided, endpoint_errors, kl_tracing


class Sure(torch.nn.Module):
    """A predictor that knows the flow of some films, and is as sure as it is told: what goes where is all it says."""

    def __init__(self, queries: int, certainty: float):
        super().__init__()
        self.films, self.certainty = films(queries, seed=1 << 30), certainty

    def forward(self, ids):
        first = ids[:, : SIDE * SIDE].view(-1, SIDE, SIDE)
        second = torch.zeros_like(first)
        film, y, x = self.films.seen.nonzero().T
        dy, dx = self.films.flow[film, y, x].T
        second[film, y + dy, x + dx] = first[film, y, x]
        return self.certainty * torch.nn.functional.one_hot(second.flatten(1), len(PALETTE)).float()


def sure(certainty: float):
    return act.wrap(Sure(60, certainty), sites={}, example=torch.zeros(60, 2 * SIDE * SIDE, dtype=torch.long))


def test_a_predictor_that_knows_the_flow_is_traced_without_error():
    errors = endpoint_errors(sure(50.0), 60, 6, 0)
    assert errors["KL tracing"] < 0.1 and errors["expected colours"] < 0.1 and errors["drawn colours"] < 0.1
    assert errors["patch left where it was"] == pytest.approx(2.4, abs=0.2) and errors["random patch"] > 3
    unsure = endpoint_errors(sure(1.0), 60, 6, 0)
    assert unsure["KL tracing"] < 0.1 and unsure["drawn colours"] > 1  # a draw says little of a distribution that is flat


def test_in_pocket_a_word_of_a_list_is_found_to_decide_its_copy():
    found = decided(act.load("pocket"), 4, 0)
    assert found["decided place found by KL tracing"] > 0.6
    assert found["decided place found by KL tracing"] > found["decided place found by drawn tokens"]
    assert found["decided place found by chance"] < 0.2
    assert found["decided place found by KL tracing, another word"] < 0.3


@pytest.mark.full
def test_its_figures_are_those_of_the_claim():
    result = kl_tracing(seeds=(0,), seen=3000, queries=100, documents=8)
    mean = {name: values[0] for name, values in result.figures.items()}
    assert result.ours == mean["KL tracing"] < result.baseline == mean["drawn colours"]
    assert result.control == mean["KL tracing, untrained"] > result.ours
