"""A judge that asks: each item has its own answer or none, and which are asked together tells nothing."""

import json

import pytest
import torch
from tests.explainers.planted_rules import planted

from actscope.core.explanation import Explanation
from actscope.core.judge import Judge
from actscope.core.ledger import Ledger
from actscope.core.predicate import TokenIn
from actscope.core.text import TokenText
from actscope.explainers.judges.language_model import LanguageModel
from actscope.explainers.sources.endpoint import Endpoint
from fake_server import FakeServer, data

SAID = Explanation(0, "fires on ' the'", "language_model")


@pytest.fixture(scope="module")
def text() -> TokenText:
    _, subject, store = planted([TokenIn((" the",))], documents=20, length=50)
    return TokenText.of(store, subject)


def listed(*pairs: tuple) -> str:
    return json.dumps({"answers": [{"id": number, "probability": value} for number, value in pairs]})


def is_the(messages) -> str:
    return listed(*((one["id"], float(one["token"] == " the")) for one in data(messages)["items"]))


def judged(text: TokenText, folder, answer, rows, faults=(), **settings):
    with (
        FakeServer(answer=answer, faults=list(faults)) as server,
        Ledger(Endpoint(server.url, "m"), folder, concurrent=1) as kept,
    ):
        judge = LanguageModel(kept, **settings)
        assert isinstance(judge, Judge)
        return judge(SAID, text, rows), server, kept.counts


def test_every_row_has_the_answer_of_its_own_item_however_they_are_mixed(text, tmp_path):
    rows = torch.cat([torch.arange(150), torch.tensor([3, 3, 7])])
    found, server, _ = judged(text, tmp_path, is_the, rows, batch=7)
    the = text.vocabulary.index(" the")
    assert torch.equal(found, (text.ids[rows] == the).float()) and len(server.seen) == 22  # 150 rows, equal ones once


def test_the_model_sees_what_stands_before_in_the_sequence_and_nothing_after(text, tmp_path):
    _, server, _ = judged(text, tmp_path, is_the, torch.tensor([50, 55, 99]), batch=3, before=8)
    shown = data(server.bodies[0]["messages"])
    words = [text.vocabulary[number] for number in text.ids.tolist()]
    assert {(one["before"], one["token"]) for one in shown["items"]} == {
        ("", words[50]), ("".join(words[50:55]), words[55]), ("".join(words[91:99]), words[99]),
    }  # fmt: skip
    assert shown["explanation"] == SAID.text


def test_contexts_of_one_kind_do_not_come_in_one_question(text, tmp_path):
    """Rows come sorted by kind; in no question of ten are all of one half."""
    _, server, _ = judged(text, tmp_path, is_the, torch.arange(100), batch=10)
    words = {
        "".join(text.vocabulary[number] for number in text.ids[max(row // 50 * 50, row - 32) : row].tolist()): row
        for row in range(100)
    }
    for body in server.bodies:
        halves = {words[one["before"]] < 50 for one in data(body["messages"])["items"]}
        assert halves == {True, False}


WRONG = {
    "missing": listed((1, 0.5), (2, 0.5)),
    "twice": listed((1, 0.5), (2, 0.5), (2, 0.5)),
    "unknown": listed((1, 0.5), (2, 0.5), (4, 0.5)),
    "too many": listed((1, 0.5), (2, 0.5), (3, 0.5), (4, 0.5)),
    "above 1": listed((1, 0.5), (2, 7), (3, 0.5)),
    "words": listed((1, "yes"), (2, "no"), (3, "no")),
    "truth": listed((1, True), (2, False), (3, False)),
    "none": listed((1, None), (2, 0), (3, 0)),
    "id": listed((1.0, 0), (2, 0), (3, 0)),
    "half": listed((1, 0.5), (2, 0.5), (3, 0.5))[:-20],
    "bare": "[1, 0, 0]",
    "prose": "The first fires.",
    "empty": "",
    "more": json.dumps({"answers": [{"id": number, "probability": 0, "why": "x"} for number in (1, 2, 3)]}),
    "object": '{"answers": {"1": 0.5}}',
    "infinite": listed((1, float("inf")), (2, 0), (3, 0)),
}


@pytest.mark.parametrize("kind", sorted(WRONG))
def test_a_list_that_cannot_be_used_is_asked_for_again_and_then_is_no_answer(text, tmp_path, kind: str):
    answers = iter([WRONG[kind], None, WRONG[kind], WRONG[kind]])

    def answer(messages) -> str:
        return is_the(messages) if (said := next(answers)) is None else said

    found, server, counts = judged(text, tmp_path / "once", answer, torch.arange(3), batch=3)
    assert not found.isnan().any() and len(server.seen) == 2 and counts["verdicts"]["used"] == 1
    found, server, counts = judged(text, tmp_path / "twice", answer, torch.arange(3), batch=3)
    assert found.isnan().all() and len(server.seen) == 2 and "used" not in counts["verdicts"]


def test_a_question_without_an_answer_leaves_its_rows_without_one_and_no_others(text, tmp_path):
    found, _, _ = judged(text, tmp_path, is_the, torch.arange(30), faults=["400", "400"], batch=10)
    assert int(found.isnan().sum()) == 10
