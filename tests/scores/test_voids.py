"""LAC on lengths that are given, and skips that skip what they say."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from actscope.core.site import Site
from actscope.scores._parts.voids import drawn, elsewhere, skipping, voids


def lengths(*deltas: float) -> torch.Tensor:
    return torch.tensor([0.0, *deltas]).cumsum(0)[None, None] + 1


def test_a_layer_is_a_void_below_alpha_times_the_span_of_the_deltas_so_far():
    #                   spans: 0, 9, 10, 13, 13
    found = voids(lengths(9, 0, -1, 12, 10), 0.8)
    assert found[0, 0].tolist() == [False, True, True, False, True]  # thresholds 0, 7.2, 8, 10.4, 10.4
    assert voids(lengths(9, 0, -1, 12, 10), 0.7)[0, 0].tolist() == [False, True, True, False, False]  # the last: 9.1


def test_the_authors_code_takes_the_span_before_the_layer_and_so_misses_the_first_idle_one():
    assert voids(lengths(5, 0, 0, 5), 0.8)[0, 0].tolist() == [False, True, True, False]
    assert voids(lengths(5, 0, 0, 5), 0.8, own=False)[0, 0].tolist() == [False, False, True, False]


def test_a_layer_that_shortens_is_a_void_and_scale_does_not_matter():
    x = 1 + torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(0))
    assert voids(x, 0.5)[x.diff(dim=-1) < 0].all()
    assert torch.equal(voids(100 * x, 0.5), voids(x, 0.5))


@given(st.integers(0, 10_000))
def test_controls_skip_as_many(seed: int):
    draw = torch.Generator().manual_seed(seed)
    text = torch.rand(2, 5, generator=draw) < 0.7
    void = (torch.rand(2, 5, 4, generator=draw) < 0.4) & text[..., None]
    assert torch.equal(drawn(void, draw).sum(-1), void.sum(-1))  # of every token
    dealt = elsewhere(void, text, draw)
    assert torch.equal(dealt.sum((0, 1)), void.sum((0, 1))) and not dealt[~text].any()  # of every layer, at text only


def test_each_token_is_skipped_where_the_mask_says():
    skip = torch.zeros(1, 2, 3, dtype=torch.bool)
    skip[0, 1, 2] = True
    made = skipping([Site("resid_pre", n) for n in range(3)], [Site("resid_post", n) for n in range(3)], skip)
    assert [one.site for one in made] == [Site("resid_post", n) for n in range(3)]
    assert [one.reads for one in made] == [(Site("resid_pre", n),) for n in range(3)]
    assert [one.where.tolist() for one in made] == [[[False, False]], [[False, False]], [[False, True]]]
