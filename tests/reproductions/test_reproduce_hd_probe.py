"""The reproduction of Bronzini et al. 2025 on a small scale: its prompts are what they are said to be, its figures mean what
they say."""

import pytest
import torch

import actscope as act
from actscope.explainers.hd_probe import hd_probe as fit_probe
from actscope.reproductions.hd_probe import CITIES, KEYS, OPENINGS, RECALLS, drawn, hd_probe, lens, name
from actscope.tasks._parts.people import HOMES
from actscope.tasks._parts.rule import is_test
from actscope.tasks.context_facts import ContextFacts


@pytest.fixture(scope="module")
def pocket():
    return act.load("pocket")


@pytest.fixture(scope="module")
def data(pocket):
    return drawn(pocket, 400, 150, seed=7)


def test_prompts_are_those_of_pockets_rule(data):
    """Opened, joined and asked as its own documents are."""
    own = [example.prompt for example in ContextFacts().examples(400, seed=0, split="test")]
    assert {text.split(" lives in ")[0].rsplit(" ", 2)[0] for text in own} == set(OPENINGS)
    assert {text.split(". ")[1].split(" ")[0] for text in own} == set(RECALLS)
    for text, (person, city), (second, other) in zip(data.judge.texts, data.judge.asked, data.judge.other, strict=True):
        facts = sorted([f"{name(person)} lives in {CITIES[city]}", f"{name(second)} lives in {CITIES[other]}"])
        opening, rest = next((opening, text.removeprefix(opening + " ")) for opening in OPENINGS if text.startswith(opening))
        said, asked = rest.split(". ")
        assert sorted(said.split(" and ")) == facts and opening in OPENINGS
        assert asked in {f"{recall} {name(person)} lives in" for recall in RECALLS}
        assert person in KEYS and second in KEYS and HOMES[person] not in (CITIES[city], CITIES[other])


def test_combinations_judged_are_unseen_by_the_probe_and_prompts_by_pocket(data):
    stated = {*data.train.asked, *data.train.other}
    assert set(data.judge.asked) <= data.held and not stated & data.held
    assert {city for _, city in data.judge.asked} == {city for _, city in data.train.asked} == set(range(len(CITIES)))
    assert all(is_test(text) for text in data.judge.texts)
    assert len({*data.judge.texts, *data.train.texts}) == len(data.judge.texts) + len(data.train.texts)


def test_the_lens_at_the_last_layer_is_the_model_and_where_that_errs_it_says_the_other_city(pocket, data):
    inputs = pocket.prepare(data.judge.texts[:8])
    last = inputs.mask.sum(1) - 1
    logits = pocket.run(inputs).logits[torch.arange(8), last]
    assert torch.allclose(lens(pocket, data.judge.layers[:8, -1]), logits, atol=1e-4)
    right = [CITIES[city] for _, city in data.judge.asked]
    said = pocket.pieces(lens(pocket, data.judge.layers[:, -1]).argmax(1).tolist())
    wrong = [(word.strip(), number) for number, word in enumerate(said) if word.strip() != right[number]]
    assert 0.02 < len(wrong) / len(right) < 0.3
    assert sum(word == CITIES[data.judge.other[number][1]] for word, number in wrong) > 0.8 * len(wrong)


def test_the_states_are_those_the_probe_reads_itself(pocket, data):
    few = data.train.first(16)
    probe = fit_probe(pocket, few.texts, few.bindings("facts"), dimensions=64, hidden=16, rows=64, states=few.states)
    assert torch.allclose(probe.states(pocket, few.texts), few.states, atol=1e-4)


def test_bindings_are_what_the_prompt_says(data):
    (person, city), (second, other) = data.judge.asked[0], data.judge.other[0]
    assert data.judge.bindings("facts")[0] == {"asked": CITIES[city], "other": CITIES[other]}
    assert data.judge.bindings("asked")[0] == {"asked": CITIES[city]}
    assert data.judge.bindings("keys")[0] == {name(person): CITIES[city], name(second): CITIES[other]}


def test_a_small_run_reads_what_is_bound_and_its_controls_do_not():
    result = hd_probe(seeds=(7,), prompts=1200, judged=150, dimensions=256, hidden=128, rows=8_000)
    mean = {figure: values[0] for figure, values in result.figures.items()}
    assert all(len(values) == 1 for values in result.figures.values())
    assert result.ours == mean["top-1"] and result.baseline == mean["top-1 of logit lens"]
    assert result.control == mean["top-1 with shuffled bindings"]
    assert mean["top-1"] > 0.5 > 0.2 > max(result.control, mean["top-1 with wrong roles"])
    assert mean["top-1 where pocket is right"] > mean["top-1 where pocket errs"]
    assert 0.02 < mean["errors of pocket"] < 0.3 and mean["lens layer"] == 3
    assert not result.holds and result.seconds > 0 and set(result.inputs) == {"subject"}
