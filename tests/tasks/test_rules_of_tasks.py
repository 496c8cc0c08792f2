"""What each rule of the grammar says, and where its held-out prompts are kept."""

import re
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actscope.core import methods
from actscope.core.errors import UsageError
from actscope.tasks._parts.people import BUCKETS, HOMES, PEOPLE, meet
from actscope.tasks._parts.rule import is_test
from actscope.tasks._parts.text import PIECE
from actscope.tasks._parts.words import ENTITIES

TASKS = methods.names("tasks")


def task(name: str):
    return methods.find("tasks", name)()  # type: ignore[operator]


def test_every_rule_of_the_design_is_there():
    assert set(TASKS) >= {
        "induction", "ioi", "greater_than", "docstring", "colored_objects", "successor", "facts", "context_facts", "addition",
        "brackets", "tone", "refusal",
    }  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_the_answer_stands_where_the_prompt_ends(name: str):
    for seed in range(30):
        item = task(name).draw(Random(seed), "train")
        rest = item.text[item.cut :]
        assert any(rest.startswith(answer) for answer in item.answers)
        assert not any(re.match(re.escape(wrong) + r"(?![a-z])", rest) for wrong in item.wrong)
        assert PIECE.match(rest), "an answer begins with a whole piece"


@pytest.mark.parametrize("name", TASKS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_the_split_follows_from_the_prompt_alone(name: str, seed: int):
    assert is_test(task(name).draw(Random(seed), "test").prompt)
    assert not is_test(task(name).draw(Random(seed), "train").prompt)


def test_an_unknown_split_is_named():
    with pytest.raises(UsageError, match="'dev'"):
        task("ioi").examples(1, seed=0, split="dev")


def test_sums_are_right_and_reversed():
    for example in task("addition").examples(200, seed=0, split="test"):
        first, second = map(int, re.findall(r"\d+", example.prompt))
        assert example.answers == (f"{str(first + second)[::-1]};",)


def test_carries_are_labelled_where_they_arrive():
    found = 0
    for seed in range(200):
        item = task("addition").draw(Random(seed), "train")
        first, second = map(int, re.findall(r"\d+", item.prompt))
        carried = {start - item.cut for start, _, cause in item.marks if cause == "addition.carried_in"}
        length = len(str(first))
        expected = {place for place in range(1, length) if first % 10**place + second % 10**place >= 10**place}
        assert carried == expected
        found += bool(expected)
    assert found > 20


def test_later_years_are_the_answers_and_the_rest_is_wrong():
    for example in task("greater_than").examples(50, seed=0, split="test"):
        start = example.labels["start"]
        assert min(example.answers) > start >= max(example.wrong)
        assert len(example.answers) + len(example.wrong) == 100


def test_the_receiver_is_the_name_not_repeated():
    for example in task("ioi").examples(50, seed=0, split="test"):
        assert example.prompt.count(example.answers[0].strip()) == 1
        assert example.prompt.count(example.wrong[0].strip()) == 2


def test_context_contradicts_memory():
    for example in task("context_facts").examples(50, seed=0, split="test"):
        assert example.answers[0].strip() != example.labels["memorised"]
        assert example.answers[0] in example.prompt


def test_people_are_met_by_zipf_and_facts_never_change():
    random = Random(0)
    ranks = [meet(random) for _ in range(20_000)]
    shares = [sum(first <= rank < end for rank in ranks) / len(ranks) for first, end in BUCKETS.values()]
    assert shares[0] > 0.5 and shares[-1] < 0.15
    for example in task("facts").examples(50, seed=0, split="test"):
        assert example.answers == (f" {HOMES[int(example.labels['rank'])]}",)
    assert len(set(PEOPLE)) == len(PEOPLE)


def test_only_the_forbidden_topic_is_declined():
    for example in task("refusal").examples(80, seed=0, split="test"):
        declined = ENTITIES[example.labels["topic"]] == ("topic.forbidden",)
        assert example.answers == ((" Sorry",) if declined else (" Sure",))


def test_a_word_stands_in_one_list():
    kinds = [causes[-1] for causes in ENTITIES.values()]
    assert len(ENTITIES) == 313 and set(kinds) >= {"name", "city", "object", "topic.forbidden", "digit.7"}
