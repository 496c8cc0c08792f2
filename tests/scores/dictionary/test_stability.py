"""Which latent is which: planted permutations, widths, sites and dead latents."""

import pytest
import torch
from fakes import SITE, Linear, Rows
from planted_labels import shuffled
from torch.nn import functional

from actscope.core.errors import BadInput
from actscope.scores._match import match
from actscope.scores.dictionary.stability import stability

M, D = 40, 16


def made(seed: int = 0, m: int = M, d: int = D) -> Linear:
    atoms = functional.normalize(torch.randn(m, d, generator=torch.Generator().manual_seed(seed)), dim=1)
    return Linear(atoms.T.contiguous(), atoms, torch.zeros(d))


def rows(d: int = D) -> Rows:
    return Rows({SITE: torch.randn(1500, d, generator=torch.Generator().manual_seed(9))})


@pytest.mark.parametrize("by", ["atoms", "codes"])
def test_the_same_dictionary_in_another_order_and_scale_is_found_latent_by_latent(by: str):
    one = made()
    order = torch.randperm(M, generator=torch.Generator().manual_seed(0))  # as `shuffled` draws it
    found = match(one, shuffled(one), rows(), by=by)
    assert torch.equal(found.partner, order.argsort())
    assert found.similarity.min() > 0.999 and found.nearest.min() > 0.999
    assert found.control.mean() < (0.7 if by == "atoms" else 0.15)


def test_a_wider_dictionary_holds_the_narrower_one_and_the_reverse_leaves_latents_alone():
    wide = made()
    narrow = Linear(wide.encoder[:, :10], wide.decoder[:10], wide.bias)
    assert match(narrow, wide).partner.tolist() == list(range(10))
    back = match(wide, narrow)
    assert back.partner[:10].tolist() == list(range(10)) and bool((back.partner[10:] == -1).all())
    assert back.similarity[10:].isnan().all() and back.nearest[10:].isfinite().all()


def test_another_site_is_matched_by_codes_on_the_same_tokens():
    """The second site is a rotation of the first into more coordinates, so atoms have no cosine."""
    one, store = made(), rows()
    turn = torch.linalg.qr(torch.randn(24, 24, generator=torch.Generator().manual_seed(3))).Q[:D]
    there = Linear(turn.T @ one.encoder, one.decoder @ turn, torch.zeros(24))
    moved = Rows({SITE: store.acts[next(iter(store.acts))] @ turn})
    assert match(one, there, store, moved, by="codes").partner.tolist() == list(range(M))
    with pytest.raises(BadInput, match="by='codes'"):
        match(one, there)
    with pytest.raises(BadInput, match="give store="):
        match(one, there, by="codes")
    with pytest.raises(BadInput, match="same tokens"):
        match(one, there, store, Rows({SITE: torch.zeros(7, 24)}), by="codes")


def test_stability_is_one_for_itself_and_the_control_for_something_else():
    one, store = made(), rows()
    same = stability(one, store, others=[shuffled(one), shuffled(one, seed=1)])
    assert same.value == pytest.approx(1, abs=1e-5) and same.parts["shared"] == 1 and same.n == M
    other = stability(one, store, others=[made(1), made(2)])
    assert other.value == pytest.approx(other.control, abs=0.05) and other.parts["shared"] < 0.3
    low, high = other.interval
    assert low < other.value < high
    with pytest.raises(BadInput, match="others="):
        stability(one, store, others=[])


def test_half_shared_atoms_are_told_from_the_others_latent_by_latent():
    one, store = made(d=64), rows(64)
    other = made(5, d=64)
    other.decoder[:20] = one.decoder[torch.arange(19, -1, -1)]
    score = stability(one, store, others=[other])
    figures = torch.tensor([score.parts[f"latent:{i}"] for i in range(M)])
    assert figures[:20].min() > 0.999 and figures[20:].max() < 0.95 and score.interval is not None


def test_latents_that_never_fire_have_no_say():
    """They stand where they began; two dictionaries begun alike would look stable."""
    one, other = made(d=64), made(6, d=64)
    other.decoder[30:] = one.decoder[30:]
    for each in (one, other):
        each.encoder[:, 30:] = 0.0
    score = stability(one, rows(64), others=[other])
    assert score.n == 30 and score.parts["live"] == 0.75 and "latent:30" not in score.parts
    assert score.value < 0.8 < match(one, other).similarity[30:].min()
