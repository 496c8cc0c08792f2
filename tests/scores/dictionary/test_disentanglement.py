"""Exchanging attributes of entities in a model where each stands in coordinates of its own."""

import itertools

import pytest
import torch
from fakes import Linear
from torch import nn

from actscope.core.errors import BadInput
from actscope.core.task import Example
from actscope.scores.dictionary.disentanglement import disentanglement
from actscope.subjects.module import wrap

K, SITE = 5, "layers.0.resid_post"  # values of each of two attributes; entity (i, j) is token i * K + j
ENTITIES, ASK_FIRST, ASK_SECOND = K * K, K * K, K * K + 1
FIRST, SECOND = K * K + 2, K * K + 2 + K  # answers
V = K * K + 2 + 2 * K
D = 2 * K + 2


class Entities(nn.Module):
    """Asked for the first or second attribute, says that of the entity at the start."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(V, D)
        weight = torch.zeros(V, D)
        for i, j in itertools.product(range(K), range(K)):
            weight[i * K + j, i] = weight[i * K + j, K + j] = 1.0
        weight[ASK_FIRST, 2 * K] = weight[ASK_SECOND, 2 * K + 1] = 1.0
        self.embed.weight.data = weight

    def forward(self, ids):
        x = self.embed(ids)
        entity = x[:, :1].expand_as(x)
        logits = torch.zeros(*ids.shape, V)
        logits[..., FIRST : FIRST + K] = 5 * entity[..., :K] * x[..., 2 * K : 2 * K + 1]
        logits[..., SECOND : SECOND + K] = 5 * entity[..., K : 2 * K] * x[..., 2 * K + 1 :]
        return logits


SUBJECT = wrap(Entities(), sites={SITE: "embed:out"}, example=torch.zeros(1, 2, dtype=torch.long))


def examples(first: bool) -> list[Example]:
    """Every entity, and as its twin one that differs in both attributes."""
    made = []
    for i, j in itertools.product(range(K), range(K)):
        for by in (1, 2):
            twin = (i + by) % K * K + (j + by) % K
            ask, answer = (ASK_FIRST, FIRST + i) if first else (ASK_SECOND, SECOND + j)
            made.append(Example(f"<{i * K + j}><{ask}>", (f"<{answer}>",), (), f"<{twin}><{ask}>"))
    return made


ATTRIBUTES = {"first": examples(True), "second": examples(False)}


def dictionary(turn: torch.Tensor) -> Linear:
    """Directions and their opposites: exact, whatever the rotation."""
    return Linear(torch.cat([turn, -turn], dim=1), torch.cat([turn.T, -turn.T]), torch.zeros(D), reads=SITE)


def mixed(within: bool) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    if not within:
        return torch.linalg.qr(torch.randn(D, D, generator=draw)).Q
    halves = [torch.linalg.qr(torch.randn(K, K, generator=draw)).Q for _ in range(2)]
    return torch.block_diag(*halves, torch.eye(2))


@pytest.mark.parametrize("turn", [torch.eye(D), mixed(within=True)])
def test_latents_that_keep_attributes_apart_score_one(turn: torch.Tensor):
    score = disentanglement(dictionary(turn), SUBJECT, ATTRIBUTES, sizes=(1, 2, 5, 10), draws=20)
    assert score.value == score.parts["cause"] == score.parts["isolation"] == 1 and score.interval == (1, 1)
    assert score.parts["full_cause"] == 1 and score.parts["full_isolation"] == 0
    assert score.control < 0.75


def test_latents_that_mix_them_cannot_move_one_without_the_other():
    score = disentanglement(dictionary(mixed(within=False)), SUBJECT, ATTRIBUTES, sizes=(1, 2, 5, 10, 20))
    assert score.value < 0.9 and score.parts["cause"] + score.parts["isolation"] == pytest.approx(2 * score.value)


def test_scale_and_order_of_the_latents_do_not_matter():
    one = dictionary(mixed(within=False))
    order, scale = torch.randperm(2 * D, generator=torch.Generator().manual_seed(2)), torch.linspace(0.2, 3, 2 * D)
    other = Linear(one.encoder[:, order] * scale, one.decoder[order] / scale[:, None], one.bias, reads=SITE)
    given = {"sizes": (1, 5, 10)}
    assert disentanglement(other, SUBJECT, ATTRIBUTES, **given).value == pytest.approx(
        disentanglement(one, SUBJECT, ATTRIBUTES, **given).value, abs=0.02
    )


def test_examples_the_model_gets_wrong_or_without_a_twin_do_not_count():
    with pytest.raises(BadInput, match="at least two"):
        disentanglement(dictionary(torch.eye(D)), SUBJECT, {"first": ATTRIBUTES["first"]})
    wrong = [Example(one.prompt, ("<0>",), (), one.corrupted) for one in ATTRIBUTES["second"]]
    with pytest.raises(BadInput, match="0 pairs of 'second'"):
        disentanglement(dictionary(torch.eye(D)), SUBJECT, {**ATTRIBUTES, "second": wrong})
    with pytest.raises(BadInput, match="corrupted twin"):
        disentanglement(dictionary(torch.eye(D)), SUBJECT, {**ATTRIBUTES, "second": [Example("<0><25>", ("<27>",))]})
