"""Facets: denoising is what it says, drawing goes up, and a neuron of two causes gets both."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import actscope as act
from actscope.core.errors import BadInput, UnknownSite
from actscope.explainers.facets import Phase, activations, denoised, facets, facets_of, maximised

LOGITS = act.Site("logits")
SHORT = (Phase(30, 0.0, (0.02, 0.02), (0.01, 0.01)),)


class Either(nn.Module):
    """A unit that is the larger of two patterns' products with the picture; another that is one of them."""

    def __init__(self, patterns: torch.Tensor):
        super().__init__()
        self.patterns = nn.Parameter(patterns)
        self.code = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one, two = self.code(x.flatten(1) @ self.patterns.flatten(1).T).unbind(1)
        return torch.stack([torch.maximum(one, two), one], 1)


@pytest.fixture
def two():
    patterns = torch.zeros(2, 8, 8)
    patterns[0, :, 1:3] = 1.0
    patterns[1, 5:7] = 1.0
    draw = torch.Generator().manual_seed(0)
    shape = torch.randint(0, 3, (240,), generator=draw)
    shown = torch.cat([patterns, torch.zeros(1, 8, 8)])[shape]
    images = (shown * (0.5 + 0.5 * torch.rand(240, 1, 1, generator=draw)) + 0.1 * torch.rand(240, 8, 8, generator=draw)).clamp(
        0, 1
    )
    subject = act.wrap(Either(patterns), sites={"final_norm": "code"}, example=images[:1, None])
    return subject, images[:, None], shape, patterns


def variation(x: torch.Tensor) -> torch.Tensor:
    down, right = torch.zeros_like(x), torch.zeros_like(x)
    down[..., :-1, :], right[..., :-1] = x.diff(dim=-2), x.diff(dim=-1)
    return (down.square() + right.square()).sqrt().sum((-2, -1))


@given(seed=st.integers(0, 1000), weight=st.floats(0.005, 0.3))
@settings(max_examples=15, deadline=None)
def test_denoising_lowers_variation_keeps_the_mean_and_is_near_the_least_of_its_objective(seed: int, weight: float):
    draw = torch.Generator().manual_seed(seed)
    x = torch.rand(2, 1, 9, 7, generator=draw)
    y = denoised(x, weight, rounds=400)
    assert (variation(y) < variation(x)).all()
    torch.testing.assert_close(y.mean((2, 3)), x.mean((2, 3)))

    def objective(u):
        return ((u - x).square().sum((1, 2, 3)) / 2 + weight * variation(u).sum(1)).double()

    for other in (
        x,
        x.mean((2, 3), keepdim=True).expand_as(x),
        *(y + 0.01 * torch.randn(y.shape, generator=draw) for _ in range(5)),
    ):
        assert (objective(y) <= 1.005 * objective(other)).all()


def test_denoising_leaves_an_even_image_and_flattens_a_step_by_the_known_amount():
    even = torch.full((1, 1, 6, 6), 0.3)
    torch.testing.assert_close(denoised(even, 0.5), even)
    assert denoised(even, 0.0) is even
    step = torch.zeros(1, 1, 6, 8)
    step[..., 4:] = 1.0
    flattened = denoised(step, 0.2, rounds=3000)  # a side of 4 columns moves by weight / 4
    torch.testing.assert_close(flattened[..., 0], torch.full((1, 1, 6), 0.05), atol=2e-3, rtol=0)
    torch.testing.assert_close(flattened[..., -1], torch.full((1, 1, 6), 0.95), atol=2e-3, rtol=0)


def test_drawing_raises_the_neuron_and_a_margin_is_left_alone(two):
    subject, images, shape, _ = two
    start = images[shape == 2][:3]
    drawn = maximised(subject, start, 0, site=LOGITS, phases=SHORT)
    assert (activations(subject, drawn, LOGITS)[:, 0] > activations(subject, start, LOGITS)[:, 0] + 1).all()
    assert drawn.min() >= 0 and drawn.max() <= 1
    enough = float(activations(subject, drawn, LOGITS)[:, 0].min()) / 2
    less = activations(subject, maximised(subject, start, 0, site=LOGITS, phases=SHORT, enough=enough), LOGITS)[:, 0]
    assert (less >= enough).all() and (less < activations(subject, drawn, LOGITS)[:, 0] - 0.5).all()
    inner = maximised(subject, start, 0, site=LOGITS, phases=(Phase(5, 0.25, (0.02, 0.02), (0.0, 0.0)),))
    changed = (inner != start).any(1).any(0)
    assert not changed[:2].any() and not changed[:, :2].any() and not changed[-2:].any() and changed[2:6, 2:6].any()


def test_a_neuron_of_two_causes_gets_both_and_one_of_one_cause_does_not(two, tmp_path):
    subject, images, shape, patterns = two
    found = facets(subject, images, 0, most=80, clusters=2, phases=SHORT, seed=0)
    drawn = torch.tensor([one.evidence["image"] for one in found])
    like = torch.corrcoef(torch.cat([drawn.flatten(1), patterns.flatten(1)]))[:2, 2:]
    assert like.amax(0).min() > 0.8 and like.argmax(1).unique().numel() == 2
    for one in found:
        assert one.latent == 0 and shape[one.evidence["nearest"]].unique().numel() == 1
        score = one.score("facet_activation")
        assert score.value > score.parts["mean image"] > score.control
        assert score.parts["images"] == pytest.approx(
            float(activations(subject, images[one.evidence["nearest"]], LOGITS)[:, 0].mean())
        )
    assert sum(one.evidence["images"] for one in found) == 80
    only = facets(subject, images, 1, most=40, clusters=2, phases=SHORT, seed=0)
    alone = torch.corrcoef(torch.cat([torch.tensor([one.evidence["image"] for one in only]).flatten(1), patterns.flatten(1)]))[
        :2, 2:
    ]
    assert (alone.argmax(1) == 0).all()
    act.save(found, tmp_path / "facets")
    assert act.open(tmp_path / "facets") == found


def test_heaps_of_codes_are_told_apart_the_largest_first():
    draw = torch.Generator().manual_seed(0)
    centre = torch.tensor([[9.0, 0, 0], [0, 9.0, 0], [0, 0, 9.0]]).repeat_interleave(torch.tensor([50, 30, 20]), 0)
    codes = centre + torch.randn(100, 3, generator=draw)
    groups, again = (facets_of(codes, components=3, clusters=3, seed=0) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(groups, again, strict=True))
    assert [sorted(group.tolist()) for group in groups] == [list(range(50)), list(range(50, 80)), list(range(80, 100))]


def test_what_cannot_be_is_refused(two):
    subject, images, _, _ = two
    with pytest.raises(BadInput, match="from 0 to 1"):
        facets(subject, images, 2)
    with pytest.raises(BadInput, match="at least 10 images"):
        facets(subject, images[:5], 0)
    with pytest.raises(UnknownSite):
        facets(subject, images, 0, code="layers.0.mlp_post")
