"""The decorrelation loss in closed form, and what fine-tuning with it does to a token that is like the first."""

import pytest
import torch

from actscope.adaptation.sink_decorrelation import sink_decorrelation, squared_cosine
from actscope.core.errors import BadInput
from actscope.core.site import Site
from actscope.organisms.planted_sinks import MARK, Trained, planted_sinks
from actscope.training.plan import Plan
from actscope.training.shuffled import Shuffled

END = Site("resid_post", 0)


@pytest.fixture(scope="module")
def trained() -> Trained:
    return planted_sinks(3, words=16, width=32, layers=2, rows=1_280)


def tuned(trained: Trained, **given):
    text = trained.world.sequences(256, seed=7, marked=True)
    plan = Plan(rows=32 * 40, batch=32, lr=1e-3, seed=1)
    change = sink_decorrelation(trained.subject, Shuffled(text, "marked"), plan, **given)
    return change, trained.subject.changed(change)


def cosine(subject, trained: Trained) -> float:
    """Of the mark with the first token."""
    ids = trained.world.sequences(40, seed=8, marked=True).ids
    x = subject.run(ids, read=[END]).acts[END]
    return float(torch.nn.functional.cosine_similarity(x[ids == MARK], x[:, 0], dim=-1).mean())


def test_it_is_the_mean_squared_cosine_with_the_anchor_and_length_does_not_matter():
    x = torch.tensor([[[2.0, 0], [3, 0], [0, 5], [-1, 1]]])
    assert float(squared_cosine(x)) == pytest.approx((1 + 0 + 0.5) / 3)
    assert float(squared_cosine(x, 3)) == pytest.approx((0.5 + 0.5 + 0.5) / 3)
    assert float(squared_cosine(7 * x)) == pytest.approx(float(squared_cosine(x)))
    assert float(squared_cosine(torch.cat([x, x.roll(1, 2) * torch.tensor([1.0, -1])]))) == pytest.approx(0.5)  # turned alike


def test_the_mark_is_taken_away_from_the_first_token_and_plain_tuning_leaves_it_there(trained: Trained):
    before = cosine(trained.subject, trained)
    ours, _ = tuned(trained, weight=10_000.0)
    _, plain = tuned(trained, weight=0.0)
    assert before > 0.99 and cosine(plain, trained) > 0.99
    assert abs(cosine(trained.subject.changed(ours), trained)) < 0.3
    assert ours.origin == "sink_decorrelation weight=10000" and ours.interventions == ()


def test_only_what_is_compared_is_moved(trained: Trained):
    """With a loss at the first block's end alone and no target, nothing behind it changes."""
    text = trained.world.sequences(64, seed=7, marked=True)
    silent = text._replace(targets=torch.full_like(text.targets, -100))
    silent.targets[0, 0] = text.targets[0, 0]
    change = sink_decorrelation(
        trained.subject, Shuffled(silent, "silent"), Plan(rows=64, batch=64, lr=1e-3), weight=1e9, sites=["layers.0.resid_post"]
    )
    moved = {name: float((delta.value - trained.subject.weights()[name]).abs().max()) for name, delta in change.weights.items()}
    assert moved["gpt_neox.layers.0.mlp.dense_h_to_4h.weight"] > 10 * moved["gpt_neox.layers.1.mlp.dense_h_to_4h.weight"]


def test_what_cannot_be_is_refused(trained: Trained):
    with pytest.raises(BadInput, match="weight from 0"):
        tuned(trained, weight=-1.0)
    with pytest.raises(BadInput, match="one layer"):
        one = planted_sinks(0, words=16, width=16, heads=2, rows=64)
        one.subject.order = tuple(site for site in one.subject.order if site != Site("resid_post", 1) and site.layer != 2)
        sink_decorrelation(one.subject, None, Plan(rows=1))
