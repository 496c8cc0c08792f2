"""A server that misbehaves costs a bounded time and a bounded amount of memory, and never learns or shows a key."""

import json
import sqlite3
import time
import tracemalloc
from email.utils import formatdate

import pytest

from actscope.core.errors import BadInput
from actscope.core.ledger import Ledger
from actscope.core.source import Answer, Failed, Prompt, Unanswered
from actscope.explainers.sources.endpoint import Endpoint
from fake_server import FakeServer, label

PROMPT = Prompt("system", "user", {"type": "object"}, most=50)
KEY = "sk-a-key-that-nobody-may-see"


def failure(server: FakeServer, **settings) -> Failed:
    with pytest.raises(Failed) as failed:
        Endpoint(server.url, "m", **settings).ask(PROMPT)
    return failed.value


def test_a_question_is_asked_in_the_protocol_and_its_answer_read():
    with FakeServer(answer=lambda messages: "said", model="m-2026") as server:
        answer = Endpoint(server.url, "m", settings={"seed": 3, "temperature": None}).ask(PROMPT.again("no", "once more"))
    assert answer == Answer("said", "m-2026", "stop", 100, 20)
    [body] = server.bodies
    assert [turn["role"] for turn in body["messages"]] == ["system", "user", "assistant", "user"]
    assert body["model"] == "m" and body["max_tokens"] == 50 and body["seed"] == 3 and "temperature" not in body
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert "authorization" not in server.headers[0]


def test_a_server_without_schemas_is_asked_without_one_from_then_on():
    with FakeServer(always="no schema") as server:
        endpoint = Endpoint(server.url, "m")
        endpoint.ask(PROMPT)
        endpoint.ask(PROMPT)
        assert ["response_format" in body for body in server.bodies] == [True, False, False]
        assert not failure(server, structured=True).again


@pytest.mark.parametrize(
    "fault, why, billed, kept",
    [
        ("429", "status 429", False, False),
        ("500", "status 500", False, False),
        ("503", "status 503", False, False),
        ("529", "status 529", False, False),
        ("hang", "within 0.3 s", True, False),
        ("drip", "within 0.3 s", True, False),
        ("reset", "broke off", True, False),
        ("truncated", "not JSON", True, True),
        ("deep", "not JSON", True, True),
        ("wrong shape", "no chat completion", True, True),
        ("gzip", "compressed", True, True),
        ("10 MB", "more than 1,048,576 bytes", True, True),
    ],
)
def test_what_is_no_answer_is_a_failure_that_says_what_came(fault: str, why: str, billed: bool, kept: bool):
    patience = {"timeout": 0.3} if "0.3 s" in why else {}
    with FakeServer(always=fault, hang=2.0) as server:  # a drip takes longer still
        began = time.monotonic()
        failed = failure(server, **patience)
        assert not patience or time.monotonic() - began < 1.5
    assert why in failed.why and failed.again and failed.billed is billed and (failed.body is not None) is kept


def test_ten_megabytes_are_not_read_into_memory():
    with FakeServer(always="10 MB") as server:
        endpoint = Endpoint(server.url, "m", most_bytes=100_000)
        tracemalloc.start()
        with pytest.raises(Failed) as failed:
            endpoint.ask(PROMPT)
        held = sum(
            one.size
            for one in tracemalloc.take_snapshot().statistics("filename")
            if "fake_server" not in one.traceback[0].filename
        )
        tracemalloc.stop()
    assert len(failed.value.body or b"") == 100_001 and held < 5_000_000


def test_no_connection_is_a_failure():
    with FakeServer() as server:
        url = server.url
    with pytest.raises(Failed, match="no connection"):
        Endpoint(url, "m").ask(PROMPT)


@pytest.mark.parametrize(
    "header, low, high",
    [("2", 2, 2), ("0", 0, 0), ("", None, None), ("soon", None, None), ("-5", None, None), ("nan", None, None),
     ("in 1,000 s", 900, 1000), (formatdate(0, usegmt=True), 0, 0)],
    ids=["2", "0", "none", "soon", "below 0", "nan", "a date", "a date gone by"],
)  # fmt: skip
def test_retry_after_is_read_in_both_its_forms(header: str, low: float | None, high: float | None):
    if header == "in 1,000 s":  # as a date, counted from when it is read and not from when tests are collected
        header = formatdate(time.time() + 1000, usegmt=True)
    with FakeServer(always="429", retry_after=header) as server:
        after = failure(server).after
    assert after is None if low is None else low <= after <= high


@pytest.mark.parametrize("status", ["301", "302", "307", "308", "401", "403", "404", "402"])
def test_where_no_answer_can_come_from_the_sentence_says_what_to_do(status: str):
    with FakeServer(always=status) as server, pytest.raises(BadInput) as error:
        Endpoint(server.url, "m").ask(PROMPT)
    assert status in str(error.value) and "\x1b" not in str(error.value) and len(server.seen) == 1


def test_a_redirect_is_not_followed():
    with FakeServer(always="redirect") as server, pytest.raises(BadInput, match="not followed"):
        Endpoint(server.url, "m").ask(PROMPT)


@pytest.mark.parametrize("status", ["400", "413", "422"])
def test_a_question_that_is_refused_is_not_tried_again(status: str):
    with FakeServer(always=status) as server:
        assert not failure(server).again


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000", "ftp://host/v1", "file:///etc/passwd", "http://", "http://169.254.169.254/v1", "http://2852039166/v1",
        "http://0xa9.254.169.254/v1", "http://[fe80::1]/v1", "http://[::ffff:169.254.169.254]/v1", "http://0.0.0.0:8000/v1",
        "http://user:s3cret@host/v1", "https://host/v1?key=1", "http://u:s3cret@host:port/v1", "http://[::1/v1", "",
    ],
)  # fmt: skip
def test_addresses_that_cannot_be(url: str):
    with pytest.raises(BadInput) as error:
        Endpoint(url, "m")
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize("url", ["http://h/v1", "http://h/v1/", "http://h/v1/chat/completions"])
def test_the_address_is_taken_with_and_without_its_end(url: str):
    assert Endpoint(url, "m").url == "http://h/v1/chat/completions"


def test_a_key_goes_to_the_server_and_nowhere_else(monkeypatch, tmp_path, caplog, capfd):
    monkeypatch.setenv("ACTSCOPE_API_KEY", KEY)
    caplog.set_level(0)
    said = {"answer": lambda messages: label(f"fires on {KEY}")}  # a server that sends it back
    with FakeServer(**said) as server, Ledger(endpoint := Endpoint(server.url, "m"), tmp_path, pause=0.0) as ledger:
        list(ledger.ask([PROMPT]))
        assert server.headers[0]["authorization"] == f"Bearer {KEY}"
        server.always = "truncated"
        list(ledger.ask([PROMPT.again("", "more")]))
        shown = [repr(endpoint), repr(vars(endpoint)), endpoint.name, str(ledger.counts)]
    files = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    out = capfd.readouterr()
    assert KEY.encode() not in files and KEY not in "".join([*shown, caplog.text, out.out, out.err])


@pytest.mark.parametrize(
    "url, sent", [("http://example.org/v1", False), ("http://8.8.8.8/v1", False), ("http://127.0.0.1:9/v1", True)]
)
def test_a_key_is_not_sent_in_the_clear_over_a_network(monkeypatch, url: str, sent: bool):
    monkeypatch.setenv("ACTSCOPE_API_KEY", KEY)
    with pytest.raises(Failed if sent else BadInput) as error:
        Endpoint(url, "m", timeout=0.5).ask(PROMPT)
    assert KEY not in str(error.value)


def test_the_environment_gives_no_proxy_and_no_other_key(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with FakeServer() as server:
        Endpoint(server.url, "m").ask(PROMPT)
    assert KEY not in json.dumps(server.headers)


@pytest.mark.parametrize(
    "usage", [{}, {"prompt_tokens": -1, "completion_tokens": 5}, {"prompt_tokens": "9", "completion_tokens": 5}, 7]
)
def test_tokens_that_no_server_can_mean_are_not_believed(usage, monkeypatch):
    monkeypatch.setattr("fake_server._Handler._said", lambda *_: {"choices": [{"message": {"content": "x"}}], "usage": usage})
    with FakeServer() as server:
        answer = Endpoint(server.url, "m").ask(PROMPT)
    assert answer.text == "x" and answer.tokens_in is None and answer.tokens_out is None


@pytest.mark.parametrize(
    "said",
    [7, None, [], {}, {"choices": []}, {"choices": {}}, {"choices": ["x"]}, {"choices": [{"message": "x"}]},
     {"choices": [{"message": None}]}, {"choices": [{"message": {"content": ["x"]}}]},
     {"choices": [{"message": {"content": "x"}, "finish_reason": 7}]}, {"choices": [{"message": {"content": "\ud800"}}]},
     {"choices": [{"message": {"content": "x"}}], "model": "\ud800"}],
    ids=str,
)  # fmt: skip
def test_json_that_is_no_chat_completion_is_a_failure_whose_body_is_kept(said, monkeypatch, tmp_path):
    monkeypatch.setattr("fake_server._Handler._said", lambda *_: said)
    with FakeServer() as server, Ledger(Endpoint(server.url, "m"), tmp_path, tries=1) as ledger:
        [(_, answer)] = ledger.ask([PROMPT])
        assert answer == Unanswered("JSON that is no chat completion")
        with sqlite3.connect(tmp_path / "answers.sqlite") as base:
            assert base.execute("select body from attempts").fetchall() == [(json.dumps(said).encode(),)]
        base.close()
