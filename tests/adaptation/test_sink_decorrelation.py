"""The decorrelation loss in closed form, and what fine-tuning with it does to a token that is like the first."""

import pytest
import torch

import actscope as act
from actscope.adaptation.sink_decorrelation import _Decorrelated, sink_decorrelation, squared_cosine
from actscope.core.errors import BadInput
from actscope.core.site import Site
from actscope.organisms.planted_sinks import MARK, Trained, planted_sinks
from actscope.training.plan import Plan
from actscope.training.shuffled import Shuffled

END = Site("resid_post", 0)


@pytest.fixture(scope="module")
def trained() -> Trained:
    return planted_sinks(3, words=16, width=32, layers=2, rows=1_280, size=30.0)


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


def test_only_what_stands_before_the_states_is_moved_by_the_loss(trained: Trained):
    text = trained.world.sequences(16, seed=7, marked=True)
    tuning = _Decorrelated(trained.subject, [END], 1.0, 0)
    losses = tuning.objective(text, progress=0.0)
    torch.testing.assert_close(losses["loss"], losses["cross-entropy"] + losses["cosine"])
    losses["cosine"].backward()
    grads = {name: 0.0 if p.grad is None else float(p.grad.abs().max()) for name, p in tuning.model.named_parameters()}
    assert grads["gpt_neox.layers.0.mlp.dense_h_to_4h.weight"] > 0 and grads["gpt_neox.embed_in.weight"] > 0
    assert not any(grad for name, grad in grads.items() if "layers.1." in name or "lm_head" in name)


def test_what_cannot_be_is_refused(trained: Trained):
    with pytest.raises(BadInput, match="weight from 0"):
        tuned(trained, weight=-1.0)
    net = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 5))
    one = act.wrap(net, sites={"layers.0.resid_post": "0"}, example=torch.zeros(1, 2, dtype=torch.long))
    with pytest.raises(BadInput, match="one layer"):
        sink_decorrelation(one, None, Plan(rows=1))
