"""The task on which sinks come up, and the reproduction of their course scaled far down."""

import pytest
import torch

from actscope.core.score import Score
from actscope.reproductions import massive_dynamics as module
from actscope.reproductions._parts.backcopy import CONTEXT, TRIGGERS, WORDS, chain, frequent, held, sequences
from actscope.reproductions.massive_dynamics import left_out, massive_dynamics


def test_after_a_trigger_comes_the_word_before_it_and_elsewhere_the_chain_goes_on():
    chances = chain(0)
    often = frequent(chances)
    torch.testing.assert_close(often @ chances, often, atol=1e-5, rtol=0)
    ids = sequences(400, chances, seed=0)
    assert ids.shape == (400, CONTEXT) and (ids[:, 0] == 0).all() and ids[:, 1:].min() == 1 and ids.max() == WORDS
    triggers = often.topk(TRIGGERS).indices + 1
    here = torch.isin(ids, triggers)[:, 2:-1]
    assert torch.equal(ids[:, 3:][here], ids[:, 1:-2][here]) and 0.2 < float(here.float().mean()) < 0.8
    word = int(often.argsort()[-TRIGGERS - 1])  # the most frequent that is none
    after = ids[:, 2:][ids[:, 1:-1] == word + 1] - 1
    share = torch.bincount(after, minlength=WORDS).float() / len(after)
    assert float((share - chances[word]).abs().max()) < 0.1


def test_sequences_to_measure_on_are_others():
    passages = held(6, seed=0)
    (batch,) = passages.batches
    assert batch.ids.shape == (6, CONTEXT) and passages.tokens == 6 * CONTEXT
    assert not torch.equal(batch.ids, sequences(6, chain(0), seed=0)) and not batch.text[:, 0].any()


def test_what_shapes_explain_is_left_out_of_no_model():
    x = torch.cat([torch.ones(8, 1), torch.randn(8, 2, generator=torch.Generator().manual_seed(0))], 1).double()
    assert left_out(x, x @ torch.tensor([1.0, 2.0, -3.0]).double()) == pytest.approx(1)
    assert left_out(x[:, :1], torch.arange(8).double()) == pytest.approx(0)
    assert left_out(x, torch.randn(8, generator=torch.Generator().manual_seed(1)).double()) < 0.5


def test_only_large_layers_count_and_shapes_that_tell_the_ratio_are_found():
    def fit(last, r2):
        parts = {
            "last": last,
            "chance": 5.0,
            "first": 1.0,
            "line": 0.5,
            "A": last,
            "K": 1.0,
            "lambda": 0.1,
            "gamma": 0.1,
            "t0": 1.0,
        }
        return Score("massive_dynamics:layers.0.resid_post", "massive_dynamics@1", r2, "R2", "neither", 14, None, 0.3, parts)

    told = [[fit(7.0, 0.2), fit(float(layers * width), 0.95)] for layers, width, _ in module.SHAPES]
    found = module._judged(told, 0)
    assert found["large layers"] == 8 and found["R2"] == pytest.approx(0.95) and found["least R2"] == 0.95
    assert found["R2 left out, last ratio"] == pytest.approx(1, abs=1e-6)
    assert found["R2 left out, last ratio, shapes dealt out anew"] < 0.3
    assert module._judged([[fit(7.0, 0.2)]] * 8, 0)["least R2"] == 0


@pytest.mark.full
def test_ratios_are_followed_from_the_first_step(monkeypatch):
    monkeypatch.setattr(module, "SHAPES", ((1, 16, 2), (2, 16, 2), (1, 32, 2), (2, 32, 2), (1, 16, 4), (2, 16, 4)))
    result = massive_dynamics(steps=60, texts=4)
    mean = {name: values[0] for name, values in result.figures.items()}
    assert 4 < mean["ratio of normal draws"] < 7 and all(mean[name] > 1 for name in mean if name.startswith("last ratio"))
    assert result.ours == mean["R2"] and result.control == mean["R2, random orders"]
