"""The reproduction of RecSAE on a small scale: its figures mean what they say."""

import pytest
import torch

from actscope.core.intervention import Add, Splice
from actscope.organisms.recommender import VECTOR, Trained, recommender
from actscope.reproductions import recsae as module
from actscope.reproductions.recsae import CONTROLS, RIVALS, recsae

WORLD = {"items": 80, "genres": 8, "width": 24, "layers": 1, "users": 12_800}


@pytest.fixture(scope="module")
def trained() -> Trained:
    return recommender(0, **WORLD)


@pytest.fixture(scope="module")
def read(trained):
    return module._read(trained, 0, 400, 100_000, ((32, 4), (8, 1)), 150)


def test_taking_a_latent_off_is_running_without_it(trained, read):
    items = read.judge.items[:20]
    values = read.sae.encode(trained.subject.run(items, read=[VECTOR]).acts[VECTOR].flatten(0, 1)).dense()
    latent = int((values > 0).sum(0).argmax())
    change = (-values[:, latent, None] * read.sae.atoms[read.sae.write][latent]).unflatten(0, items.shape)
    one = trained.subject.run(items, write=[Add(VECTOR, change)]).logits
    two = trained.subject.run(items, write=[Splice(read.sae, without=(latent,))]).logits
    torch.testing.assert_close(one, two, atol=1e-3, rtol=1e-3)
    assert (one - trained.subject.run(items).logits).abs().max() > 0.1


def test_rates_are_shares_of_what_is_recommended(trained, read):
    rates = module._rates(trained, read.judge)
    two = trained.world.genres.sum(1) == 2
    assert 1 <= float(rates.sum()) <= 1 + float(two.float().max())  # an item of two genres counts twice
    nothing = module._rates(trained, read.judge, torch.zeros(*read.judge.items.shape, 24))
    assert torch.equal(rates, nothing)
    found = module._cut(trained, read.judge, rates, torch.ones(8), "nothing", [torch.zeros(*read.judge.items.shape, 24)] * 8)
    assert found["cut of the genre by nothing"] == found["most cut of another by nothing"] == found["pass by nothing"] == 0


def test_controls_have_the_length_of_what_is_ablated_and_other_directions(read):
    values = torch.tensor([[[2.0, 0.0, 3.0], [0.0, 1.0, 0.0]]])
    atoms = read.sae.atoms[read.sae.write][:3].detach()
    other = module._another(values, 0, atoms, torch.Generator().manual_seed(0))
    torch.testing.assert_close(other[0], -torch.stack([atoms[2], atoms[1]]))
    assert not module._another(values, 1, atoms, torch.Generator().manual_seed(0))[0, 1].any()


def test_genres_are_found_among_latents_and_ablation_takes_them_off(trained, monkeypatch):
    monkeypatch.setattr(module, "recommender", lambda seed, *, users: trained)
    result = recsae(seeds=(0,), captured=400, rows=100_000, sizes=((16, 3),), judged=150, ablated=80)
    mean = {name: values[0] for name, values in result.figures.items()}
    knowing, popular = (mean[f"next item recommended by {name}"] for name in ("knowing the wants", "popularity"))
    assert knowing > mean["next item recommended"] > 1.5 * popular
    assert result.ours == mean["pass by latent"] and result.control == mean["pass by random direction"] == 0
    assert result.baseline == max(mean[f"pass by {rival}"] for rival in RIVALS)
    assert mean["F1 of latent"] > max(mean[f"F1 of {rival}"] for rival in RIVALS)
    assert mean["cut of the genre by latent"] > 0.5 > 0.2 > max(mean[f"cut of the genre by {name}"] for name in CONTROLS)
    assert mean["length taken off by latent"] == pytest.approx(mean["length taken off by random direction"], rel=1e-4)
    assert mean["named items of the genre"] > 0.8 > mean["all items of a genre"]
    assert mean["confidence of descriptions"] > mean["confidence on other users"] + 0.25
    assert result.holds == (result.ours >= 0.8 and result.ours > max(result.baseline, mean["pass by another latent"]))
