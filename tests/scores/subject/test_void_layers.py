"""Layers that do nothing are found, and skipping them costs nothing."""

import pytest
import torch
from small_models import Told, passages, sentences, subject

from actscope.core.errors import BadInput
from actscope.core.site import Site
from actscope.scores.subject.void_layers import void_layers


def test_idle_layers_are_voids_at_every_token_and_skipping_them_changes_nothing():
    small = subject(layers=5, idle=(2, 3))
    read = passages(small, sentences(12))
    share, skipped, *layers = void_layers(small, read, alpha=1e-4)
    found = [one.value for one in layers]
    assert found[2] == found[3] == 1.0
    working = small.run(read.batches[0].inputs, read=[Site("resid_post", n) for n in range(5)]).acts
    grows = (working[Site("resid_post", 1)].norm(dim=-1) > working[Site("resid_post", 0)].norm(dim=-1))[read.batches[0].text]
    assert found[1] == pytest.approx(1 - float(grows.float().mean()), abs=0.03)  # a layer that shortens counts as a void too
    assert share.value == pytest.approx(sum(found) / 5)
    assert set(skipped.parts) >= {"clean", "voids", "random", "elsewhere", "random - voids low"}


def test_where_only_idle_layers_are_void_the_loss_stays_and_random_skipping_changes_it():
    small = subject(layers=4, idle=(1, 2))
    for number in (0, 3):  # working layers that always lengthen the stream
        with torch.no_grad():
            small.model.gpt_neox.layers[number].mlp.dense_4h_to_h.bias.fill_(6.0)
    share, skipped, *layers = void_layers(small, passages(small, sentences(12)), alpha=1e-4)
    assert [round(one.value, 3) for one in layers] == [0, 1, 1, 0] and share.value == pytest.approx(0.5)
    assert skipped.value == pytest.approx(0, abs=1e-6) and skipped.parts["elsewhere"] == pytest.approx(
        skipped.parts["clean"], abs=1e-6
    )
    assert abs(skipped.control) > 0.01  # which skips working layers


def test_a_subject_that_predicts_nothing_is_refused():
    told = Told({"layers.0.resid_post": lambda ids: torch.ones(*ids.shape, 4)})
    with pytest.raises(BadInput, match="predicts no next token"):
        void_layers(told, passages(told, ["abcdefgh"]))
