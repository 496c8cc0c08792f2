from dataclasses import dataclass

import pytest
import torch

from actscope.checks.check_intervention import check_intervention
from actscope.core.errors import BadInput
from actscope.core.inputs import Inputs
from actscope.core.intervention import Add, At, Context, Copy, Freeze, Largest, Mean, Replace, Scale, Zero
from actscope.core.site import Site

SITE = Site("resid_post", 1)
X = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
GOOD = [
    Add(SITE, torch.arange(6.0), 2.0),
    Replace(SITE, torch.ones(6)),
    Scale(SITE, 0.5),
    Zero(SITE),
    Mean(SITE),
    Freeze(SITE),
    Largest(SITE, 2),
    At(Scale(SITE, 3.0), torch.eye(5, dtype=torch.bool)[:2]),
]


@pytest.mark.parametrize("intervention", GOOD, ids=lambda item: type(item).__name__)
def test_primitives_keep_the_contract(intervention):
    check_intervention(intervention, X)


def test_a_copy_keeps_the_contract_and_gives_what_stands_at_its_source():
    before, there = Site("resid_pre", 1), X.flip(0)
    check_intervention(Copy(SITE, before), X, seen={before: there})


def test_the_largest_of_each_row_stay_and_the_others_are_zero():
    x = torch.tensor([[[0.0, 3.0, -1.0, 2.0], [0.0, 0.0, 0.0, 5.0]]])
    given = Context({}, Inputs(), torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool))
    assert Largest(SITE, 2)(x, given).tolist() == [[[0, 3, 0, 2], [0, 0, 0, 5]]]
    assert Largest(SITE, 4)(x, given) is x and (Largest(SITE, 1)(x, given) != 0).sum(-1).tolist() == [[1, 1]]


@dataclass(frozen=True)
class Bad:
    what: str
    memory: tuple = ()
    site: Site = SITE
    reads: tuple = ()

    def __call__(self, x: torch.Tensor, context: Context) -> torch.Tensor:
        if self.what == "in place":
            return x.add_(1)
        if self.what == "shape":
            return x[:, :2]
        if self.what == "random":
            return x + torch.randn_like(x)
        if self.what == "type":
            return x.double()
        return x


BROKEN = {
    "in place": "altered the value",
    "random": "two results",
    "shape": "shape",
    "type": "float64",
    "unsaveable": "cannot be saved",
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_intervention_is_found(what: str):
    with pytest.raises((AssertionError, BadInput), match=BROKEN[what]):
        check_intervention(Bad(what), X.clone())


def test_what_cannot_be_saved_must_say_so():
    check_intervention(Bad("fine"), X, saves=False)
    with pytest.raises(AssertionError, match="cannot be saved"):
        check_intervention(Zero(SITE), X, saves=False)
