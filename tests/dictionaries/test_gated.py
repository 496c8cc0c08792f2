"""What Rajamanoharan et al. 2024 claim of gated autoencoders, on planted causes."""

import pytest
import torch
from tests.dictionaries._planted import fvu, likeness, planted, shrinkage
from tests.training._toys import OUT, PORT, Rows

from actscope.core.batch import Batch
from actscope.core.errors import BadInput
from actscope.dictionaries._parts import unit_norm
from actscope.dictionaries.gated import Gated
from actscope.dictionaries.relu_l1 import ReluL1
from actscope.training.fit import fit
from actscope.training.plan import Plan

D, M = 48, 192


@pytest.mark.full
@torch.no_grad()
def test_it_neither_shrinks_nor_leaves_as_much_unexplained_as_relu_with_as_many_active():
    x, directions = planted(20_000, D, 96, 4)
    rows, plan = Rows({PORT: x}), Plan(rows=150_000, batch=200)
    ours, control = (
        fit(made, rows, plan)
        for made in (Gated(reads={PORT: D}, n_latents=M, l1=0.5), ReluL1(reads={PORT: D}, n_latents=M, l1=0.4))
    )
    codes, plain = ours.encode(x), control.encode(x)
    rebuilt, flat = ours.decode(codes)[PORT], control.decode(plain)[PORT]
    assert len(codes.index) < len(plain.index)
    assert fvu(rebuilt, x) < 0.5 * fvu(flat, x)
    assert abs(shrinkage(rebuilt, x)) < 0.03 < 0.15 < shrinkage(flat, x)
    assert likeness(ours.atoms[PORT], directions).mean() > 0.9


def test_the_loss_is_the_papers_for_rows_of_mean_square_length_one():
    """Dense, by hand, gradients too: the gates' own error leaves decoder and centre alone."""
    made = Gated(reads={PORT: 5}, n_latents=9, l1=0.3, warmup=0.0, aux_weight=0.0).double()
    x = torch.randn(40, 5, dtype=torch.float64) + 1
    batch = Batch({PORT: x}, torch.zeros(40, 2, dtype=torch.long))
    made.begin(batch)
    made.select.log_gain.data.normal_()
    made.select.magnitude_bias.data.normal_()
    made.bias.data.normal_()
    losses = made.objective(batch, progress=0.0)
    losses["loss"].backward()
    given = {name: parameter.grad.clone() for name, parameter in made.named_parameters()}
    made.zero_grad()
    rows, atoms = x / made.scale_read, unit_norm.on_sphere(made.decoder)
    shared = (rows - made.centre) @ made.encoder.T
    gates = torch.relu(shared + made.bias)
    z = torch.relu(made.select.log_gain.exp() * shared + made.select.magnitude_bias) * (gates > 0)
    loss = (rows - z @ atoms - made.centre).square().mean() + 0.3 * gates.sum(1).mean() / 5**0.5
    loss = loss + (rows - gates @ atoms.detach() - made.centre.detach()).square().mean()
    torch.testing.assert_close(losses["loss"], loss)
    loss.backward()
    for name, parameter in made.named_parameters():
        torch.testing.assert_close(given[name], parameter.grad)
    torch.testing.assert_close(made.encode(x).dense(), z * made.unit)


@pytest.mark.parametrize(("given", "message"), [({"l1": -0.1}, "l1=-0.1"), ({"writes": {OUT: 4}}, "gated writes the one port")])
def test_what_cannot_be_is_refused(given, message):
    with pytest.raises(BadInput, match=message):
        Gated(**{"reads": {PORT: 4}, "n_latents": 9, **given})
