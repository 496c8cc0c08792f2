"""What explanations are made from: the text as the model read it, and contexts drawn as they should be."""

import pytest
import torch
from planted_rules import planted

from actscope.core.errors import BadInput
from actscope.core.predicate import (
    All,
    Any,
    Earlier,
    LineBegins,
    Not,
    PositionIn,
    Predicate,
    Repeated,
    TokenIn,
)
from actscope.core.text import TokenText
from actscope.corpora.texts import texts
from actscope.explainers._parts.compose import both, either, length, unless
from actscope.explainers._parts.search import Aim, Space
from actscope.explainers._parts.strength import strength, target_active
from actscope.scores._parts.reading import Reading
from actscope.stores.capture import capture
from actscope.subjects.load import load


def read(*latents: Predicate | float, documents: int = 60) -> Reading:
    dictionary, subject, store = planted(latents, documents=documents)
    return Reading.of(dictionary, store, TokenText.of(store, subject))


def test_a_rule_looks_back_to_where_the_model_began_to_read_and_no_further():
    subject = load("pocket")
    line = "one two three four five six seven eight nine ten. "
    store = capture(subject, texts([line * 6, line]), ["embed"], context=24)
    text = TokenText.of(store, subject)
    assert "".join(text.vocabulary[i] for i in text.ids[text.where[:, 0] == 1].tolist()).strip() == line.strip()
    first = text.row == text.start
    assert int(first.sum()) == sum(len(places) for _, places in store.sequences(8)) > 3
    assert text.place[first].eq(0).all() and int(text.place.max()) < 24
    assert not Repeated().holds(text)[first].any() and Repeated().holds(text).any()
    packed = capture(subject, texts([line * 6, line]), ["embed"], context=24, packed=True)
    again = TokenText.of(packed, subject)
    assert torch.equal(again.ids, text.ids) and torch.equal(again.start, text.start)


def test_contexts_are_what_they_are_called():
    reading = read(Repeated(), 0.9, 0.01)
    for latent in range(3):
        drawn = reading.contexts(latent, most=150, seed=1)
        rows, _ = reading.active(latent)
        assert torch.isin(drawn.active, rows).all()
        assert not torch.isin(torch.cat([drawn.random, drawn.hard]), rows).any()
        for kind in (drawn.active, drawn.random, drawn.hard):
            assert len(kind.unique()) == len(kind) <= 150
        tokens = reading.text.ids[rows]
        assert torch.isin(reading.text.ids[drawn.hard], tokens).all()
        assert torch.equal(reading.contexts(latent, most=150, seed=1).active, drawn.active)
        assert not torch.equal(reading.contexts(latent, most=150, seed=2).active, drawn.active)
    assert len(reading.contexts(1, most=150).random) == 150  # although the latent is silent on one token in ten
    strong = reading.contexts(0, most=10_000, above=0.5).active
    column = torch.zeros(len(reading.text)).index_put((reading.active(0)[0],), reading.active(0)[1])
    assert column[strong].min() > 0.5 * column.max()


def test_hard_contexts_have_the_tokens_of_active_ones_as_often():
    reading = read(All((TokenIn((" the", " a")), Not(Repeated()))), documents=400)
    drawn = reading.contexts(0, most=400, seed=0)
    share = (reading.text.ids[drawn.hard] == reading.text.vocabulary.index(" the")).float().mean()
    assert share == pytest.approx(0.5, abs=0.1)


def test_the_aim_is_f_beta_at_the_frequency_of_the_text():
    reading = read(Repeated(), documents=100)
    target = target_active(reading, 0, 0.0)
    token = TokenIn((" the",))
    held, active = token.holds(reading.text), torch.zeros(len(reading.text), dtype=torch.bool)
    active[reading.active(0)[0]] = True
    recall, precision = float((held & active).sum() / active.sum()), float((held & active).sum() / held.sum())
    for beta in (0.5, 1.0, 3.0):
        aim = Aim(beta)
        assert aim.worth(Repeated().holds(reading.text), target) == pytest.approx(1.0)
        assert aim.worth(torch.zeros_like(held), target) == 0.0
        expected = (1 + beta**2) * precision * recall / (beta**2 * precision + recall)
        assert aim.worth(held, target) == pytest.approx(expected, abs=1e-6)
    assert Aim(part=0.01, token=0.002).price(both(token, TokenIn((" a", "ed"), 1))) == pytest.approx(0.026)


def test_rows_drawn_count_false_alarms_at_the_frequency_of_the_text():
    reading = read(All((TokenIn((" the", " a")), Not(Repeated()))), documents=600)
    space, target = Space.of(reading.text), target_active(reading, 0, 0.0)
    draws = [space.draw(target, most=200, seed=seed) for seed in range(40)]
    assert all(len(drawn.rows) < len(reading.text) / 10 for drawn in draws)
    for rule in (TokenIn((" the",)), TokenIn((" cat",)), Repeated()):
        held = rule.holds(reading.text)
        alarms = float((held & target.silent).sum()) / len(target.active)
        found = torch.tensor([float(drawn.weight[1] @ held[drawn.rows].float()) for drawn in draws])
        assert found.mean() == pytest.approx(alarms, rel=0.1)
    exact = torch.tensor(
        [float(drawn.weight[1] @ TokenIn((" the",)).holds(reading.text)[drawn.rows].float()) for drawn in draws]
    )
    chance = torch.tensor(
        [float(drawn.weight[1] @ TokenIn((" cat",)).holds(reading.text)[drawn.rows].float()) for drawn in draws]
    )
    assert exact.std() / exact.mean() < 0.75 * chance.std() / chance.mean()  # tokens that the latent has are drawn oftener


def test_strong_activations_begin_where_one_condition_tells_them_best():
    dictionary, subject, store = planted([Any((TokenIn((" the",)), TokenIn((" w1", " cat", " Anna"), 2)))], documents=300)
    faint = ~TokenIn((" the",)).holds(TokenText.of(store, subject))
    store.features[faint] *= 0.05
    reading = Reading.of(dictionary, store, TokenText.of(store, subject))
    space = Space.of(reading.text)
    target = target_active(reading, 0, 0.0)
    drawn = space.draw(target, most=1000, seed=0)
    level = strength(space, drawn, target, reading, 0, Aim(1.0))
    assert 0.055 <= level <= 0.15 * 1.1  # above all that is faint, below all that is strong
    store.features[faint] *= 20
    level = strength(space, drawn, target, Reading.of(dictionary, store, reading.text), 0, Aim(1.0))
    assert level == 0.0


def test_no_documents_are_refused():
    dictionary, subject, store = planted([0.5], documents=10)
    with pytest.raises(BadInput, match="None of the documents"):
        Reading.of(dictionary, store, TokenText.of(store, subject), [99])


RULES = [
    TokenIn((" the", " a")), TokenIn((" a", " cat")), TokenIn((" the",), 1), Repeated(), Earlier((" Anna",), 8),
    Earlier((" Ben",), 8), LineBegins((" the",)), Not(TokenIn((" a",))), Not(Repeated()), PositionIn(8), PositionIn(3, 9),
    All((TokenIn((" the",)), Repeated())), Any((TokenIn((" the",)), Repeated())),
]  # fmt: skip


@pytest.mark.parametrize("one", RULES, ids=str)
def test_joining_rules_says_what_the_parts_say(one: Predicate):
    text = read(0.5, documents=20).text
    assert torch.equal(unless(one).holds(text), ~one.holds(text))
    for two in RULES:
        assert torch.equal(both(one, two).holds(text), one.holds(text) & two.holds(text)), (one, two)
        assert torch.equal(either(one, two).holds(text), one.holds(text) | two.holds(text)), (one, two)
        assert length(both(one, two))[0] <= length(one)[0] + length(two)[0]
    assert both(None, one) == one and both(one, one) == one and either(one, one) == one
