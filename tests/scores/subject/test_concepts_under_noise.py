"""Latents counted in sequences as these are shuffled."""

import pytest
import torch
from small_models import Told, passages

from actscope.core.codes import Codes
from actscope.core.dictionary import Learned
from actscope.core.errors import WrongSubject
from actscope.scores.subject.concepts_under_noise import _spearman, concepts_under_noise

SITE = "layers.0.resid_post"
LISTED = ["abcdefghabcdefghabcdefgh", "ijklmnopijklmnopijklmnop", "aabbccddeeffgghhaabbccdd"]


class Positive(Learned):
    """Every coordinate that is positive is a latent."""

    def __init__(self, width: int):
        super().__init__(reads={SITE: width}, writes=None, n_latents=width, settings={})

    def preacts(self, x):
        return self.joined(x)

    def encode(self, x, *, grads=None):
        return Codes.from_dense(self.joined(x).relu())

    def decode(self, codes, x=None):
        return {self.read: codes.dense()}

    @property
    def atoms(self):
        return {self.read: torch.eye(self.n_latents)}

    def objective(self, batch, *, progress):
        raise NotImplementedError


def pairs(ids):
    """One latent for every pair of letters that follow each other."""
    before = torch.cat([torch.zeros_like(ids[:, :1]), ids[:, :-1]], 1)
    return torch.nn.functional.one_hot(before * 27 + ids, 27 * 27).float()


def letters(ids):
    return torch.nn.functional.one_hot(ids, 27).float()


def test_latents_of_pairs_grow_in_number_as_the_text_is_shuffled_and_those_of_letters_do_not():
    told = Told({SITE: pairs})
    whole, *levels = concepts_under_noise(told, passages(told, LISTED), dictionary=Positive(27 * 27))
    assert levels[0].value == pytest.approx((9 + 9 + 17) / 3)  # the first letter follows the special token
    assert levels[4].value > 15 and levels[0].parts["active"] == 1 and whole.value > 0.6
    assert whole.parts["active"] == 0  # there is one latent a token at every level
    told = Told({SITE: letters})
    whole, *levels = concepts_under_noise(told, passages(told, LISTED), dictionary=Positive(27))
    assert [one.value for one in levels[:5]] == [8.0] * 5
    assert levels[0].parts["control_active"] == pytest.approx(levels[0].parts["active"], rel=0.3)


def test_spearman_is_that_of_ranks():
    rising = torch.tensor([[1.0, 2, 3, 4, 5, 60], [6.0, 5, 4, 3, 2, 1], [2.0, 2, 2, 2, 2, 2]]).double()
    assert _spearman(rising).tolist() == pytest.approx([1, -1, 0])


def test_a_dictionary_of_another_model_is_refused():
    told, one = Told({SITE: letters}), Positive(27)
    one.subject = "0" * 64
    with pytest.raises(WrongSubject, match="fingerprint"):
        concepts_under_noise(told, passages(told, LISTED), dictionary=one)
