"""kill -9 while a language model is asked: what was recorded is never asked again, and the end is the same."""

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from explain_child import explained

from fake_server import FakeServer, data, label

CHILD = Path(__file__).with_name("explain_child.py")


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


@pytest.mark.parametrize("held", [True, False], ids=["questions under way", "just after an answer"])
def test_no_recorded_answer_is_asked_for_again(tmp_path, held: bool):
    with FakeServer(answer=answer) as server:
        whole = explained(server.url, str(tmp_path / "whole"))
        questions = len(server.seen)
        assert len(set(server.seen)) == questions > 30
        server.seen.clear(), server.whole.clear()
        child = subprocess.Popen([sys.executable, str(CHILD), server.url, str(tmp_path / "killed")], env=dict(os.environ))
        kill = lambda number: number == 14 and (child.send_signal(signal.SIGKILL), child.wait())  # noqa: E731
        server.before, server.after = (kill, lambda sent: None) if held else (lambda number: None, kill)
        assert child.wait(timeout=60) == -signal.SIGKILL
        server.before = server.after = lambda number: None
        kept, asked = recorded(tmp_path / "killed"), list(server.seen)
        assert 10 <= kept <= len(server.whole) <= kept + 2  # of the two under way, those that came too late to be written
        assert explained(server.url, str(tmp_path / "killed")) == whole
        again = [one for one in server.seen[len(asked) :] if one in asked]
        assert len(server.seen) == questions + len(again) and len(again) == len(asked) - kept <= 2
        assert recorded(tmp_path / "killed") == questions == len(set(server.seen))
        assert hashlib.sha256(b"").hexdigest() not in server.seen
