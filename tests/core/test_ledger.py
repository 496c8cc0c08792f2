"""What was paid for is kept, is never asked again, and costs no more than was allowed."""

import os
import sqlite3
import stat
import threading
import time

import pytest

from actscope.core import files
from actscope.core.errors import BadInput, Corrupt, DiskFull, Interrupted
from actscope.core.ledger import Cost, Ledger
from actscope.core.source import Answer, Failed, Prompt, Unanswered


class Asked:
    """A source that answers by turning the question round, after the failures it was given."""

    name, at_once = "asked", None

    def __init__(self, *failures: Failed, told: bool = True, slow: float = 0.0):
        self.failures, self.told, self.slow = list(failures), told, slow
        self.questions: list[str] = []
        self.times: list[float] = []

    def ask(self, prompt: Prompt) -> Answer:
        self.questions.append(prompt.user)
        self.times.append(time.monotonic())
        time.sleep(self.slow)
        if self.failures:
            raise self.failures.pop(0)
        return Answer(prompt.user[::-1], "m-1", "stop", *((10, 5) if self.told else (None, None)))

    def tokens(self, prompt: Prompt) -> int:
        return 10


def prompts(*texts: str) -> list[Prompt]:
    return [Prompt("system", text, {}, most=100) for text in texts]


def answers(ledger: Ledger, *texts: str) -> dict[str, object]:
    return {texts[number]: answer for number, answer in ledger.ask(prompts(*texts))}


def test_an_answer_is_asked_for_once_and_found_again_by_the_next_process(tmp_path):
    source = Asked()
    with Ledger(source, tmp_path) as ledger:
        first = answers(ledger, "abc", "def", "abc")
        assert first["abc"].text == "cba" and first["def"].text == "fed"
        assert sorted(source.questions) == ["abc", "def"]  # equal questions once
    with Ledger(source, tmp_path) as ledger:
        assert answers(ledger, "def", "abc") == first
        assert len(source.questions) == 2


def test_other_questions_and_other_sources_are_other_answers(tmp_path):
    source = Asked()
    with Ledger(source, tmp_path) as ledger:
        answers(ledger, "abc")
        [question] = prompts("abc")
        assert ledger.known(question.again("x", "wrong")) is None and ledger.known(question) is not None
        source.name = "another model"
        assert ledger.known(question) is None


def test_an_answer_is_on_disk_before_it_is_seen(tmp_path):
    with Ledger(Asked(), tmp_path, concurrent=1) as ledger:
        for _ in ledger.ask(prompts("abc", "def")):
            with sqlite3.connect(f"file:{tmp_path}/answers.sqlite?mode=ro", uri=True) as other:
                assert other.execute("select answer from answers").fetchone() == ("cba",)
            other.close()
            break


def test_no_more_are_under_way_than_allowed(tmp_path):
    now, most, turn = 0, 0, threading.Lock()

    class Counting(Asked):
        def ask(self, prompt: Prompt) -> Answer:
            nonlocal now, most
            with turn:
                now, most = now + 1, max(most, now + 1)
            time.sleep(0.01)
            with turn:
                now -= 1
            return super().ask(prompt)

    with Ledger(Counting(), tmp_path, concurrent=3) as ledger:
        assert len(answers(ledger, *map(str, range(12)))) == 12
    assert most == 3


def test_a_failure_is_tried_again_after_a_pause_and_written_down(tmp_path):
    source = Asked(Failed("status 500"), Failed("status 500"))
    with Ledger(source, tmp_path, pause=0.02) as ledger:
        assert answers(ledger, "abc")["abc"].text == "cba"
        assert ledger.counts["failures"] == {"status 500": 2}
    gaps = [after - before for before, after in zip(source.times, source.times[1:], strict=False)]
    assert gaps[0] >= 0.02 and gaps[1] >= 0.04  # doubled


def test_nobody_asks_before_the_source_says_so(tmp_path):
    source = Asked(Failed("status 429", after=0.2))
    with Ledger(source, tmp_path, pause=0.001, concurrent=2) as ledger:
        answers(ledger, "a", "b", "c", "d")
    early = [one for one in source.times if one - source.times[0] < 0.2]
    assert len(early) <= 2  # those already under way


def test_a_source_that_asks_for_more_patience_than_we_have_stops_the_run(tmp_path):
    source = Asked(Failed("status 429", after=3600.0))
    with Ledger(source, tmp_path, patience=60.0) as ledger, pytest.raises(Interrupted, match="wait 3,600 s"):
        answers(ledger, "abc", "def")


def test_after_its_last_attempt_a_question_has_no_answer_and_says_why(tmp_path):
    source = Asked(*[Failed("status 500") for _ in range(3)])
    with Ledger(source, tmp_path, pause=0.0, tries=3, concurrent=1) as ledger:
        found = answers(ledger, "abc", "def")
    assert found["abc"] == Unanswered("status 500") and found["def"].text == "fed"


def test_answers_that_cannot_be_read_are_bounded_over_restarts(tmp_path):
    source = Asked(*[Failed("not JSON", body=b"{", billed=True) for _ in range(9)])
    for _ in range(3):
        with Ledger(source, tmp_path, pause=0.0, tries=2) as ledger:
            assert answers(ledger, "abc")["abc"] == Unanswered("not JSON")
    assert len(source.questions) == 2


def test_a_run_goes_on_past_questions_that_were_given_up(tmp_path):
    """They say nothing about whether the source answers now."""
    source = Asked(*[Failed("not JSON", body=b"{", billed=True) for _ in range(5)])
    bad, good = list(map(str, range(8))), list("abcdef")
    with Ledger(source, tmp_path, tries=1, concurrent=1) as ledger, pytest.raises(Interrupted, match="5 questions in a row"):
        answers(ledger, *bad)
    with Ledger(source, tmp_path, tries=1, concurrent=1) as ledger:
        found = answers(ledger, *bad, *good)
    assert [one for one in bad if found[one] == Unanswered("not JSON")] == bad[:5] == source.questions[:5]
    assert source.questions[5:] == bad[5:] + good


def test_silence_counts_over_calls(tmp_path):
    """A judge asks a few questions at a time."""
    source = Asked(*[Failed("no connection") for _ in range(500)])
    with Ledger(source, tmp_path, pause=0.0, tries=1) as ledger:
        assert [*answers(ledger, "a", "b").values(), *answers(ledger, "c", "d").values()] == [Unanswered("no connection")] * 4
        with pytest.raises(Interrupted, match="5 questions in a row"):
            answers(ledger, "e")


def test_a_source_that_never_answers_stops_the_run(tmp_path):
    source = Asked(*[Failed("no connection") for _ in range(500)])
    with Ledger(source, tmp_path, pause=0.0, tries=2) as ledger, pytest.raises(Interrupted, match="5 questions in a row"):
        answers(ledger, *map(str, range(100)))
    assert len(source.questions) < 40


def test_what_can_never_be_answered_is_raised_after_what_was_under_way(tmp_path):
    begun = threading.Event()

    class Wrong(Asked):
        def ask(self, prompt: Prompt) -> Answer:
            if prompt.user == "2":
                assert begun.wait(30)
                raise BadInput("a wrong key")
            begun.set()
            time.sleep(0.05)
            return super().ask(prompt)

    with Ledger(Wrong(), tmp_path, concurrent=2) as ledger:
        with pytest.raises(BadInput, match="a wrong key"):
            answers(ledger, *map(str, range(1, 30)))
        assert 1 <= ledger.spent.questions <= 3


@pytest.mark.parametrize("told", [True, False])
def test_the_budget_is_never_passed(tmp_path, told: bool):
    """10 tokens in and at most 100 out at 1 a token: a question may cost 110; it costs 15 where the source tells."""
    source = Asked(told=told)
    with Ledger(source, tmp_path, price=(1e6, 1e6), budget=400.0, concurrent=4) as ledger:
        with pytest.raises(Interrupted, match="budget of 400"):
            answers(ledger, *map(str, range(100)))
        spent = ledger.spent
    assert spent.money <= 400 and spent.money > 400 - 110
    assert spent.questions == len(source.questions) == (20 if told else 3)
    assert spent.estimated == (0 if told else 330)
    with Ledger(source, tmp_path, price=(1e6, 1e6), budget=500.0) as ledger, pytest.raises(Interrupted):
        answers(ledger, *map(str, range(100)))
    assert len(set(source.questions)) == len(source.questions)  # more money, and none of it for what was there


def test_an_attempt_that_may_have_been_billed_counts(tmp_path):
    source = Asked(Failed("broke off", billed=True), Failed("status 429"))
    with Ledger(source, tmp_path, price=(1e6, 1e6), pause=0.0) as ledger:
        answers(ledger, "abc")
        assert ledger.spent.money == 15 + 110 and ledger.spent.estimated == 110


def test_the_estimate_comes_before_and_counts_what_is_new(tmp_path):
    source = Asked()
    with Ledger(source, tmp_path, price=(1.0, 2.0)) as ledger:
        asked = prompts("a", "b", "b", "c")
        assert ledger.estimate(asked) == Cost(3, 30, 300, (30 + 600) / 1e6, 330)
        assert not source.questions
        answers(ledger, "a")
        assert ledger.estimate(asked).questions == 2


def test_one_writer_at_a_time(tmp_path):
    with Ledger(Asked(), tmp_path), pytest.raises(BadInput, match="is being written by"):
        Ledger(Asked(), tmp_path)
    Ledger(Asked(), tmp_path).close()


def test_a_damaged_ledger_is_refused_and_left_as_it_is(tmp_path):
    files.write_bytes(tmp_path / "answers.sqlite", b"no database at all" * 100)
    with pytest.raises(Corrupt, match="cannot be used"):
        Ledger(Asked(), tmp_path)
    assert (tmp_path / "answers.sqlite").read_bytes() == b"no database at all" * 100
    assert not (tmp_path / ".lock").exists()


def test_nothing_is_paid_for_that_could_not_be_kept(tmp_path, monkeypatch):
    source = Asked()
    with Ledger(source, tmp_path) as ledger:
        full = type("Usage", (), {"free": 1000})
        monkeypatch.setattr("actscope.core.ledger.shutil.disk_usage", lambda folder: full)
        with pytest.raises(DiskFull):
            answers(ledger, "abc")
    assert not source.questions


@pytest.mark.parametrize(
    "settings",
    [{"budget": 1.0}, {"concurrent": 0}, {"tries": 0}, {"price": (-1.0, 1.0)}, {"price": (1.0, 1.0), "budget": -1.0}],
)
def test_settings_that_cannot_be(tmp_path, settings):
    with pytest.raises(BadInput):
        Ledger(Asked(), tmp_path, **settings)


def test_a_newer_ledger_is_refused(tmp_path):
    base = sqlite3.connect(tmp_path / "answers.sqlite")
    base.execute("pragma user_version = 7")
    base.close()
    with pytest.raises(BadInput, match="format 7"):
        Ledger(Asked(), tmp_path)


def test_a_consumer_that_stops_listening_loses_nothing(tmp_path):
    source = Asked(slow=0.02)
    with Ledger(source, tmp_path, concurrent=4) as ledger:
        coming = ledger.ask(prompts(*map(str, range(50))))
        next(coming)
        coming.close()
        assert ledger.spent.questions == len(source.questions) < 20
        assert len(answers(ledger, *map(str, range(50)))) == 50
    assert len(source.questions) == 50


def test_closing_waits_for_the_answers_that_are_under_way(tmp_path):
    source = Asked(slow=0.05)
    ledger = Ledger(source, tmp_path, concurrent=4)
    coming = ledger.ask(prompts(*map(str, range(50))))
    next(coming)  # and nobody goes on or closes it
    ledger.close()
    with sqlite3.connect(tmp_path / "answers.sqlite") as base:
        assert base.execute("select count(*) from answers").fetchone() == (len(source.questions),)
    base.close()
    coming.close()
    assert len(source.questions) < 20


def test_the_umask_holds(tmp_path):
    Ledger(Asked(), tmp_path).close()
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "answers.sqlite").stat().st_mode) == 0o644 & ~mask
