"""The reproduction of concepts under noise on a small scale: its figures mean what they say."""

import pytest
import torch

from actscope.core.inputs import real_text
from actscope.core.site import Site
from actscope.dictionaries.topk import TopK
from actscope.reproductions.noise_narrative import ask, cost_of, noise_narrative, pooled, regression, taken
from actscope.subjects.load import load

SITE = Site("resid_post", 1)


@pytest.fixture(scope="module")
def pocket():
    return load("pocket")


def test_means_are_over_each_prompts_own_tokens():
    text = torch.tensor([[True, True, False], [False, True, False]])
    assert pooled(torch.tensor([[1.0, 0.0], [3.0, 2.0], [5.0, 5.0]]), text).tolist() == [[2.0, 1.0], [5.0, 5.0]]


def test_regression_finds_what_adds_to_the_error_and_nothing_in_errors_dealt_out_anew():
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(300, 40, generator=draw)
    y = 0.2 + 0.5 * x[:, 7] - 0.3 * x[:, 9] + 0.01 * torch.randn(300, generator=draw)
    parts = torch.arange(300).split([180, 60, 60])
    found = regression(x, y, parts, SITE)
    assert found.judged > 0.98 and int(found.adds.argmax()) == 7 and int(found.adds.argmin()) == 9
    assert regression(x, y[torch.randperm(300, generator=draw)], parts, SITE).judged < 0.2


def test_what_is_taken_off_is_of_one_length_and_of_other_concepts_in_the_control():
    dictionary = TopK(reads={"layers.1.resid_post": 16}, n_latents=24, k=5)
    x, top = torch.randn(50, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 4, 20])
    codes, atoms = dictionary.encode(x).dense(), dictionary.atoms[dictionary.read].detach()
    draw = torch.Generator().manual_seed(1)
    ours = taken(dictionary, x, top, "top concepts", draw)
    torch.testing.assert_close(ours, codes[:, top].detach() @ atoms[top])
    acts = ours.norm(dim=1) > 0
    assert 0 < int(acts.sum()) < 50
    for kind in ("other concepts", "random directions"):
        control = taken(dictionary, x, top, kind, draw)
        torch.testing.assert_close(control.norm(dim=1), ours.norm(dim=1))
        assert not torch.allclose(control[acts], ours[acts])
    row = int(((codes[:, top] > 0).sum(1) == 1).nonzero()[0, 0])  # one concept is taken off here, so one other is
    one = taken(dictionary, x, top, "other concepts", draw)[row].detach()
    like = (atoms @ one / one.norm()).abs()
    found = int(like.argmax())
    assert float(like[found]) > 0.999 and found not in top.tolist() and float(codes[row, found].detach()) > 0


def test_prompts_keep_their_question_and_pocket_errs_where_the_rest_is_shuffled(pocket):
    asked = ask(pocket, 30, 0, ["ioi", "colored_objects"])
    assert asked.inputs.ids is not None and asked.inputs.mask is not None
    last = asked.inputs.ids[torch.arange(len(asked.error)), asked.inputs.mask.sum(1) - 1]
    said = {piece.strip() for piece in pocket.pieces(last.tolist())}
    assert "to" in said and asked.right.sum(1).eq(1).all()
    first, shuffled = (float(asked.error[asked.level == level].mean()) for level in (0, 4))
    assert first < 0.2 < first + 0.2 < shuffled < 1
    parts = asked.parts
    assert sorted(torch.cat(parts).tolist()) == list(range(len(asked.error))) and len(parts[1]) == len(parts[2])
    some = asked.some(torch.arange(8))
    stream = pocket.run(some.inputs, read=[SITE]).acts[SITE]
    torch.testing.assert_close(cost_of(pocket, some, SITE, stream), some.cost, atol=1e-5, rtol=0)
    moved = torch.where(real_text(some.inputs)[..., None], stream.roll(1, 0), stream)
    assert (cost_of(pocket, some, SITE, moved) - some.cost).abs().max() > 0.05


@pytest.mark.full
def test_figures_stand_on_one_scale():
    result = noise_narrative(seeds=(0,), tokens=20_000, rows=60_000, counted=2_000, prompts=60, draws=3)
    mean = {name: values[0] for name, values in result.figures.items()}
    assert result.ours == mean["R2 of concepts"] > 0.1 > mean["R2 of concepts, errors dealt out anew"]
    assert mean["error, level 0"] < mean["error, level 4"]
    assert mean["concepts in noise, layer 1"] > mean["concepts as it is, layer 1"]
    assert 0 < mean["length taken off, share"] < 1 and mean["nats before"] > 2
