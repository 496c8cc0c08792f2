"""kill -9 while a language model is asked: what was recorded is never asked again, and the end is the same."""

import json
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from explain_child import explained

from actscope.explainers.sources.endpoint import Endpoint
from fake_server import FakeServer, data, label

CHILD = Path(__file__).with_name("explain_child.py")
KILLED = 14  # the number of the request, or of the whole answer, at which the process is killed


def answer(messages) -> str:
    shown = data(messages)
    if "items" in shown:
        return json.dumps({"answers": [{"id": one["id"], "probability": len(one["before"]) % 7 / 6} for one in shown["items"]]})
    return label(f"fires on the token '{shown['fires'][0]['text'].split('<<')[1].split('>>')[0]}'")


def recorded(folder: Path) -> int:
    with sqlite3.connect(folder / "answers.sqlite") as base:
        [[n]] = base.execute("select count(*) from answers")
    base.close()
    return n


@pytest.mark.parametrize(
    "held", [True, pytest.param(False, marks=pytest.mark.full)], ids=["questions under way", "just after an answer"]
)
def test_no_recorded_answer_is_asked_for_again(tmp_path, monkeypatch, held: bool):
    """Two questions are under way at a time: those may be lost, and no others."""
    with FakeServer(answer=answer) as server:
        whole = explained(server.url, str(tmp_path / "whole"))
        questions = len(server.seen)
        assert len(set(server.seen)) == questions >= 2 * KILLED
        server.seen.clear(), server.whole.clear()
        child = subprocess.Popen([sys.executable, str(CHILD), server.url, str(tmp_path / "killed")])
        dead = threading.Event()

        def kill() -> None:
            child.send_signal(signal.SIGKILL)
            child.wait()
            dead.set()

        def before(number: int) -> None:
            if held and number == KILLED:
                kill()
            elif number > KILLED:  # the run cannot come to its end before it is killed
                dead.wait(60)

        server.before = before
        server.after = lambda sent: kill() if not held and sent == KILLED else None
        assert child.wait(timeout=60) == -signal.SIGKILL
        server.before = server.after = lambda number: None
        kept = recorded(tmp_path / "killed")
        assert KILLED - 2 <= kept <= KILLED + 1
        asked, ask = [], Endpoint.ask
        monkeypatch.setattr(Endpoint, "ask", lambda self, prompt: asked.append(prompt) or ask(self, prompt))
        assert explained(server.url, str(tmp_path / "killed")) == whole
        assert len(asked) == questions - kept and recorded(tmp_path / "killed") == questions
        assert questions <= len(server.seen) <= questions + 2 and len(set(server.seen)) == questions
