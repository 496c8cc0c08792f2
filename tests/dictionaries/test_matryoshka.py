"""What Bussmann et al. 2025 claim of Matryoshka autoencoders, on general causes with special ones beneath them."""

import pytest
import torch
from tests.dictionaries._planted import fvu
from tests.training._toys import OUT, PORT, Rows
from torch.nn import functional

from actscope.core.batch import Batch
from actscope.core.errors import BadInput
from actscope.dictionaries._parts import unit_norm
from actscope.dictionaries.batch_topk import BatchTopK
from actscope.dictionaries.matryoshka import Matryoshka
from actscope.training.fit import fit
from actscope.training.plan import Plan

D, M, GENERAL, SPECIAL = 32, 96, 6, 8


@pytest.fixture(scope="module")
def family():
    """(rows, directions of the general causes, which of them hold, which hold with a special one beneath)."""
    draw = torch.Generator().manual_seed(1000)
    directions = functional.normalize(torch.randn(GENERAL * (1 + SPECIAL), D, generator=draw), dim=1)
    general = torch.rand(20_000, GENERAL, generator=draw) < 0.25
    which = torch.randint(SPECIAL + 4, general.shape, generator=draw)  # 4 of 12: none beneath
    special = functional.one_hot(which, SPECIAL + 4)[..., :SPECIAL].bool() & general[..., None]
    holds = torch.cat([general, special.flatten(1)], 1)
    strength = holds * (0.6 * torch.rand(holds.shape, generator=draw) + 0.7)
    return 5 * strength @ directions + 2, directions[:GENERAL], general, special.any(2)


@pytest.fixture(scope="module")
def both(family):
    """(Matryoshka, BatchTopK) with fewer active latents than causes that hold."""
    rows, plan = Rows({PORT: family[0]}), Plan(rows=150_000, batch=400)
    return tuple(fit(kind(reads={PORT: D}, n_latents=M, k=2), rows, plan) for kind in (Matryoshka, BatchTopK))


@pytest.mark.full
@torch.no_grad()
def test_general_latents_are_absorbed_less_by_special_ones(family, both):
    """The latent most like a general cause stays silent less often when a special cause holds beneath it."""
    x, directions, general, beneath = family

    def silent(sae) -> float:
        like = functional.normalize(sae.atoms[PORT], dim=1) @ directions.T
        off = sae.encode(x).dense()[:, like.argmax(0)] == 0
        return float(off[general & beneath].float().mean())

    ours, control = map(silent, both)
    assert ours < 0.7 * control


@pytest.mark.full
@torch.no_grad()
def test_its_first_latents_rebuild_by_themselves(family, both):
    """Against the control's most active latents, as many of them."""
    x = family[0]

    def left(sae, few: torch.Tensor) -> float:
        codes = sae.encode(x).dense()
        return fvu(codes[:, few] @ sae.atoms[PORT][few], x - sae.scale_written * sae.centre)

    ours, control = both
    busiest = control.encode(x).dense().square().sum(0).topk(12).indices
    assert left(ours, torch.arange(12)) < 0.85 * left(control, busiest)


def test_the_loss_is_the_sum_over_all_nested_dictionaries():
    made = Matryoshka(reads={PORT: 5}, n_latents=8, k=3, prefixes=(0.25, 0.5), aux_weight=0.0).double()
    x = torch.randn(40, 5, dtype=torch.float64) + 1
    batch = Batch({PORT: x}, torch.zeros(40, 2, dtype=torch.long))
    made.begin(batch)
    losses = made.objective(batch, progress=0.0)
    losses["loss"].backward()
    given = {name: parameter.grad.clone() for name, parameter in made.named_parameters()}
    made.zero_grad()
    scaled, atoms = x / made.scale_read, unit_norm.on_sphere(made.decoder)
    z = torch.relu((scaled - made.centre) @ made.encoder.T + made.bias)
    z = z * (z >= z.flatten().topk(120).values[-1])
    loss = sum((scaled - z[:, :size] @ atoms[:size] - made.centre).square().mean() for size in (2, 4, 8))
    torch.testing.assert_close(losses["loss"], loss)
    assert {"first_2", "first_4"} < set(losses)
    loss.backward()
    for name, parameter in made.named_parameters():
        torch.testing.assert_close(given[name], parameter.grad)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prefixes": (0.5, 0.25)}, "prefixes=.* rising shares"),
        ({"prefixes": (0.01,)}, "end at \\[0\\]"),
        ({"prefixes": (1.0,)}, "rising shares"),
        ({"k": 10}, "k=10"),
        ({"writes": {OUT: 4}}, "matryoshka writes the one port"),
    ],
)
def test_what_cannot_be_is_refused(given, message):
    with pytest.raises(BadInput, match=message):
        Matryoshka(**{"reads": {PORT: 4}, "n_latents": 9, "k": 2, "prefixes": (0.5,), **given})
