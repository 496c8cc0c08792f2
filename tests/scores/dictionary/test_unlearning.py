"""Unlearning on a bigram model, where it is known which token must be forgotten to forget what."""

import pytest
import torch
from fakes import Linear
from torch import nn

from actscope.core.errors import BadInput
from actscope.core.labels import Labels
from actscope.corpora.texts import texts
from actscope.scores.dictionary.unlearning import unlearning
from actscope.stores.capture import capture
from actscope.subjects.module import wrap

V, SITE = 8, "layers.0.resid_post"


class Bigram(nn.Module):
    """Token i is followed by i + 1, nearly always."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(V, V)
        self.out = nn.Linear(V, V, bias=False)
        self.embed.weight.data = torch.eye(V)
        self.out.weight.data = 6 * torch.eye(V).roll(1, dims=0)

    def forward(self, ids):
        return self.out(self.embed(ids))


@pytest.fixture(scope="module")
def world():
    subject = wrap(Bigram(), sites={SITE: "embed:out"}, example=torch.zeros(1, 4, dtype=torch.long), context=20)
    draw = torch.Generator().manual_seed(0)
    written = []
    for _ in range(120):
        ids = [int(torch.randint(V, (1,), generator=draw))]
        for _ in range(15):
            ids.append(
                (ids[-1] + 1) % V if float(torch.rand(1, generator=draw)) < 0.8 else int(torch.randint(V, (1,), generator=draw))
            )
        written.append("".join(f"<{i}>" for i in ids))
    store = capture(subject, texts(written), [SITE])
    ids, where = store.text
    keys = where[:, 0].long() * 2**32 + where[:, 1].long()
    return subject, store, Labels({"three": keys[ids == 3], "all": keys})


def dictionary(decoder: torch.Tensor, encoder: torch.Tensor | None = None) -> Linear:
    encoder = decoder.T.contiguous() if encoder is None else encoder
    return Linear(encoder, decoder, torch.zeros(V), reads=SITE)


def test_the_latent_of_the_token_before_forgets_it_and_nothing_else(world):
    """Clamping the latents of 2 and 3 hides that 3 follows, and what follows it, which not every limit allows."""
    score = unlearning(dictionary(torch.eye(V)), *world, forget="three", ns=(1, 2), frequency=0.2, allowed=0.5)
    low, high = score.interval
    assert score.value > 1 and low > 0.5 and score.parts["retain"] < score.value / 2
    strict = unlearning(dictionary(torch.eye(V)), *world, forget="three", ns=(1, 2), frequency=0.2, allowed=0.0)
    assert strict.value == 0 and strict.parts["n"] == 0 and strict.control is None


def test_the_rise_is_what_hiding_the_token_before_costs_by_hand(world):
    """The latents of 2 and 3, which are active on forget rows most, at zero leave their embeddings empty, so that what follows
    them costs log 8."""
    subject, store, _ = world
    given = {"ns": (2,), "multipliers": (0.0,), "frequency": 0.2, "allowed": 9.0, "most": 1000}
    score = unlearning(dictionary(torch.eye(V)), *world, forget="three", choose=range(60), test=range(60, 120), **given)
    ids, where = store.text
    follows = (where[1:, 0] == where[:-1, 0]) & (where[1:, 0] >= 60)
    before, after = ids[:-1][follows], ids[1:][follows]
    logits = subject.run(before[:, None].long()).logits[:, 0].log_softmax(-1)
    loss = -logits.gather(1, after[:, None].long())[:, 0].double()
    rise = torch.where((before == 2) | (before == 3), torch.log(torch.tensor(8.0)) - loss, 0.0)
    assert score.value == pytest.approx(float(rise[after == 3].mean()), rel=1e-4) and score.value > 0.5
    assert score.parts["retain"] == pytest.approx(float(rise[after != 3].mean()), rel=1e-4)
    assert score.parts["clean_forget"] == pytest.approx(float(loss[after == 3].mean()), rel=1e-4)


def test_directions_shared_with_other_tokens_hurt_elsewhere_or_are_not_allowed(world):
    turn = torch.linalg.qr(torch.randn(V, V, generator=torch.Generator().manual_seed(0))).Q
    mixed = dictionary(torch.cat([turn.T, -turn.T]), torch.cat([turn, -turn], dim=1))
    given = {"forget": "three", "ns": (1, 2), "frequency": 0.2, "allowed": 0.5}
    clean, spread = (unlearning(one, *world, **given) for one in (dictionary(torch.eye(V)), mixed))
    assert spread.value < clean.value / 2


def test_scale_and_order_of_the_latents_do_not_matter(world):
    given = {"forget": "three", "ns": (1, 2), "frequency": 0.2, "allowed": 0.5}
    order, scale = torch.randperm(V, generator=torch.Generator().manual_seed(1)), torch.linspace(0.3, 4, V)
    one = unlearning(dictionary(torch.eye(V)), *world, **given)
    eye = torch.eye(V)
    other = unlearning(dictionary(eye[order] / scale[:, None], eye[:, order] * scale), *world, **given)
    assert other.value == pytest.approx(one.value, rel=1e-4)
    assert other.parts["retain"] == pytest.approx(one.parts["retain"], abs=1e-5)


def test_a_label_that_is_not_there_is_refused(world):
    with pytest.raises(BadInput, match="No label 'four'"):
        unlearning(dictionary(torch.eye(V)), *world, forget="four")
