"""The generalized discrimination value, and which tokens it is taken over."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import Told, passages

from actscope.core.errors import BadInput
from actscope.core.labels import Labels
from actscope.scores._parts.discrimination import distances_of, gdv_of
from actscope.scores.subject.word_classes import word_classes


def gdv(x, kind, weight=None):
    return gdv_of(distances_of(x), kind, int(kind.max()) + 1, torch.ones(len(kind)) if weight is None else weight)[0]


def test_two_points_are_apart_and_one_cloud_is_mixed():
    kind = torch.arange(40) % 2
    assert gdv(kind[:, None].float().expand(40, 3), kind) == pytest.approx(-1)
    cloud = torch.randn(400, 5, generator=torch.Generator().manual_seed(0))
    assert gdv(cloud, torch.arange(400) % 4) == pytest.approx(0, abs=0.02)


@given(st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_shifts_scales_orders_and_copies_of_coordinates_change_nothing(seed):
    draw = torch.Generator().manual_seed(seed)
    kind = torch.arange(30) % 3
    x = torch.randn(30, 4, generator=draw) + kind[:, None] * torch.randn(4, generator=draw)
    moved = (x * (torch.rand(4, generator=draw) + 0.1) + torch.randn(4, generator=draw))[:, torch.randperm(4, generator=draw)]
    same = gdv(x, kind)
    assert gdv(moved, kind) == pytest.approx(same, abs=1e-5)
    assert gdv(torch.cat([x, x], 1), kind) == pytest.approx(same, abs=1e-5)


def test_a_weight_of_nought_leaves_a_vector_out():
    x, kind = torch.randn(20, 3, generator=torch.Generator().manual_seed(2)), torch.arange(20) % 2
    apart = distances_of(x)
    weight = (torch.arange(20) < 12).float()
    assert gdv_of(apart, kind, 2, weight)[0] == pytest.approx(
        gdv_of(apart[:12, :12], kind[:12], 2, torch.ones(12))[0], abs=1e-6
    )


def labelled(listed: list[str], **classes: str) -> Labels:
    """A letter holds a class where it is one of the class's letters; the special token stands before the first."""
    places = {
        name: [d * 2**32 + p + 1 for d, text in enumerate(listed) for p, letter in enumerate(text) if letter in letters]
        for name, letters in classes.items()
    }
    return Labels({name: torch.tensor(sorted(found)) for name, found in places.items()})


def test_vectors_that_know_the_next_class_are_apart_by_it_and_not_by_permuted_labels():
    listed = ["xaxbxbxaxaxbxaxb", "xbxaxaxbxbxaxbxa"] * 2

    def ahead(ids):
        following = torch.cat([ids[:, 1:], torch.zeros_like(ids[:, :1])], 1)
        return torch.stack([(following == 1).float(), (following == 2).float()], -1)

    told = Told({"layers.0.resid_post": ahead, "layers.1.resid_post": lambda ids: torch.ones(*ids.shape, 2) * ids[..., None]})
    labels = labelled(listed, first="a", second="b")
    whole, known, ignorant = word_classes(told, passages(told, listed), labels=labels, classes=["first", "second"], most=16)
    assert known.value == pytest.approx(-1) and abs(known.control) < 0.3 and known.n == 32
    assert known.interval == pytest.approx((-1, -1))
    assert ignorant.value == 0 and whole.value == ignorant.value  # all stand at an x: nothing is told apart


def test_a_word_in_pieces_counts_once_and_rare_classes_are_left_out():
    listed = ["xaaxaaxaaxaaxbbxbbxbbxbbxc"]
    told = Told({"layers.0.resid_post": lambda ids: ids[..., None].float().expand(*ids.shape, 2)})
    found = word_classes(
        told, passages(told, listed), labels=labelled(listed, a="a", b="b", c="c"), classes=["a", "b", "c"], least=3
    )
    assert found[1].n == 8 and found[1].parts["classes"] == 2
    with pytest.raises(BadInput, match="2 of the 2 classes|0 of|1 of"):
        word_classes(told, passages(told, listed), labels=labelled(listed, a="a", c="c"), classes=["a", "c"], least=3)
