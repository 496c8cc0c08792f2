"""What Gao et al. 2024 claim of TopK, on rows whose causes are planted."""

import pytest
import torch
from tests.dictionaries._planted import fvu, likeness, planted
from tests.training._toys import OUT, PORT, Rows

from actscope.core.batch import Batch
from actscope.core.codes import Codes
from actscope.core.errors import BadInput
from actscope.dictionaries._parts import start, unit_norm
from actscope.dictionaries._parts.revival import Revival
from actscope.dictionaries.pca import PCA
from actscope.dictionaries.topk import TopK
from actscope.training.fit import fit
from actscope.training.plan import Plan


@pytest.fixture(scope="module")
def recovered():
    """(rows, directions, a dictionary fitted to them)."""
    x, directions = planted(20_000, 48, 96, 4)
    sae = TopK(reads={PORT: 48}, n_latents=192, k=6)
    return x, directions, fit(sae, Rows({PORT: x}), Plan(rows=120_000, batch=400))


def test_it_recovers_planted_directions(recovered):
    _, directions, sae = recovered
    untrained = TopK(reads={PORT: 48}, n_latents=192, k=6)
    assert likeness(sae.atoms[PORT], directions).mean() > 0.95
    assert likeness(untrained.atoms[PORT], directions).mean() < 0.6


def test_it_leaves_less_unexplained_than_as_many_principal_components(recovered):
    x, _, sae = recovered
    pca = fit(PCA(reads={PORT: 48}, n_latents=6), Rows({PORT: x}), Plan())
    with torch.no_grad():
        codes = sae.encode(x)
        assert len(codes.index) <= 6 * len(x)
        assert fvu(sae.decode(codes)[PORT], x) < 0.2 < 0.6 < fvu(pca.decode(pca.encode(x))[PORT], x)


def test_codes_are_in_units_of_the_site(recovered):
    """A latent's value is the length it adds, so twice the rows give twice the codes after a fit of their own."""
    x = recovered[0]
    once, twice = (
        fit(TopK(reads={PORT: 48}, n_latents=192, k=6), Rows({PORT: size * x}), Plan(rows=20_000, batch=400)) for size in (1, 2)
    )
    torch.testing.assert_close(once.atoms[PORT].norm(dim=1), torch.ones(192))
    once, doubled = once.encode(x[:500]), twice.encode(2 * x[:500])
    torch.testing.assert_close(doubled.dense(), 2 * once.dense(), atol=1e-3, rtol=1e-3)


def test_codes_are_the_largest_preactivations(recovered):
    x, _, sae = recovered
    value, index = sae.preacts(x[:300]).topk(6, dim=1)
    wanted = Codes.from_padded(index, torch.relu(value), 192).dense()
    torch.testing.assert_close(sae.encode(x[:300]).dense(), wanted, atol=1e-4, rtol=1e-5)


def test_revival_leaves_fewer_latents_dead_and_less_unexplained():
    """At a learning rate that kills half of the latents; the control has no AuxK."""
    x, _ = planted(15_000, 32, 512, 4)
    dead, left = {}, {}
    for weight in (0.0, 1 / 32):
        sae = TopK(reads={PORT: 32}, n_latents=512, k=4, aux_weight=weight, dead_after=8000)
        fit(sae, Rows({PORT: x}), Plan(rows=90_000, batch=250, lr=3e-2))
        with torch.no_grad():
            codes = sae.encode(x)
            dead[weight] = 1 - len(codes.index.unique()) / 512
            left[weight] = fvu(sae.decode(codes)[PORT], x)
    assert dead[0.0] > 0.25
    assert dead[1 / 32] < 0.8 * dead[0.0]
    assert left[1 / 32] < left[0.0]


def test_revival_teaches_dead_latents_alone_their_encoder_included():
    revival = Revival(6, 2, 4, aux_k=2, weight=1.0, dead_after=10)
    revival.idle[:] = torch.tensor([50, 0, 50, 0, 50, 0])
    encoder, atoms = (torch.randn(6, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    bias = torch.ones(6, dtype=torch.float64, requires_grad=True)
    centre = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    x, error = torch.randn(9, 4, dtype=torch.float64), torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    revival.loss(x, error, encoder, bias, centre, atoms).backward()
    assert error.grad is None and centre.grad is None
    for parameter in (encoder, bias, atoms):
        assert parameter.grad[::2].any() and not parameter.grad[1::2].any()

    def by_hand(encoder, bias, atoms):
        z = torch.relu(x @ encoder[::2].T + bias[::2])
        kept = z.topk(2, dim=1)
        z = torch.zeros_like(z).scatter(1, kept.indices, kept.values)
        return (error.detach() - z @ atoms[::2]).square().sum() / error.detach().square().sum()

    wanted = torch.autograd.grad(by_hand(encoder, bias, atoms), [encoder, bias, atoms])
    for parameter, grad in zip((encoder, bias, atoms), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, grad)


def test_a_latent_is_dead_after_so_many_silent_rows():
    revival = Revival(3, 1, 2, aux_k=None, weight=1.0, dead_after=5)
    for _ in range(3):
        revival.note(Codes.from_dense(torch.tensor([[1.0, 0, 0], [0, 0, 2.0]])))
        revival.after_step()
    assert revival.dead.tolist() == [False, True, False]


def test_the_loss_has_the_gradient_of_the_dense_computation():
    sae = TopK(reads={PORT: 6}, n_latents=15, k=3, aux_weight=0.0).double()
    x = torch.randn(30, 6, dtype=torch.float64) + 1
    batch = Batch({PORT: x}, torch.zeros(30, 2, dtype=torch.long))
    sae.begin(batch)
    losses = sae.objective(batch, progress=0.0)
    losses["loss"].backward()
    given = {name: parameter.grad.clone() for name, parameter in sae.named_parameters()}
    sae.zero_grad()
    scaled = x / sae.scale_read
    z = torch.relu((scaled - sae.centre) @ sae.encoder.T + sae.bias)
    kept = z.topk(3, dim=1)
    z = torch.zeros_like(z).scatter(1, kept.indices, kept.values)
    loss = (scaled - z @ unit_norm.on_sphere(sae.decoder) - sae.centre).square().mean()
    loss.backward()
    torch.testing.assert_close(losses["loss"], loss)
    for name, parameter in sae.named_parameters():
        torch.testing.assert_close(given[name], parameter.grad)
    along = (given["decoder"] * sae.decoder).sum(1)
    torch.testing.assert_close(along, torch.zeros_like(along), atol=1e-6, rtol=0)


def test_the_start_is_the_geometric_median_which_outliers_do_not_move():
    x = torch.randn(500, 8) + 5
    x[:20] += 1e4
    assert (start.geometric_median(x) - 5).norm() < 0.5 < 100 < (x.mean(0) - 5).norm()
    same = torch.full((10, 3), 2.0)
    torch.testing.assert_close(start.geometric_median(same), same[0])
    assert start.spread(same, same[0]) == 1


def test_a_few_immense_rows_do_not_set_the_scale_and_hide_the_others(monkeypatch):
    """One row in 100 is 400 times as long as the others, as attention sinks are."""
    x, directions = planted(20_000, 48, 96, 4)
    x[::100] += 400 * x.norm(dim=1).mean() * torch.eye(48)[3]

    def found() -> float:
        sae = TopK(reads={PORT: 48}, n_latents=192, k=6)
        fit(sae, Rows({PORT: x}), Plan(rows=80_000, batch=400))
        return float(likeness(sae.atoms[PORT].detach(), directions).mean())

    by_the_middle_row = found()
    monkeypatch.setattr(start, "HEAVY", float("inf"))
    assert by_the_middle_row > found() + 0.2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"k": 0}, "k=0 with n_latents=9"),
        ({"k": 10}, "k=10 with n_latents=9"),
        ({"writes": {OUT: 4}}, "use the transcoder"),
        ({"reads": {PORT: 4, OUT: 4}}, "for several the crosscoder"),
        ({"dead_after": 0}, "dead_after=0"),
    ],
)
def test_what_cannot_be_is_refused(given, message):
    with pytest.raises(BadInput, match=message):
        TopK(**{"reads": {PORT: 4}, "n_latents": 9, "k": 2, **given})
