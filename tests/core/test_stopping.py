"""Being asked to stop, and being the only writer."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from actscope.core import lock
from actscope.core.errors import BadInput, Corrupt
from actscope.core.progress import graceful, stop_requested


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_afterwards_all_is_as_before(number):
    before = signal.getsignal(number)
    with graceful():
        assert not stop_requested()
        os.kill(os.getpid(), number)
        assert stop_requested()
    assert not stop_requested() and signal.getsignal(number) is before


def test_the_second_signal_stops_at_once():
    code = (
        "import os, signal\nfrom actscope.core.progress import graceful\n"
        "with graceful():\n for _ in range(2): os.kill(os.getpid(), signal.SIGINT)\nprint('still here')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 4 and not done.stdout


def test_of_many_that_try_at_once_exactly_one_holds(tmp_path):
    holding, refused, go, done = [], [], threading.Barrier(8), threading.Barrier(8)

    def try_it():
        go.wait()
        try:
            with lock.hold(tmp_path):
                holding.append(1)
                done.wait()
        except BadInput:
            refused.append(1)
            done.wait()

    threads = [threading.Thread(target=try_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(holding), len(refused)) == (1, 7) and not os.listdir(tmp_path)


def test_it_does_not_rely_on_flock(tmp_path, monkeypatch):
    monkeypatch.setattr("fcntl.flock", lambda *given: None)  # as on filesystems where it succeeds for everyone
    with lock.hold(tmp_path), pytest.raises(BadInput, match="expected one writer"), lock.hold(tmp_path):
        pass


def test_an_error_inside_lets_go(tmp_path):
    with pytest.raises(KeyError), lock.hold(tmp_path):
        raise KeyError
    assert lock.owner(tmp_path) is None and not os.listdir(tmp_path)


def test_a_lock_that_says_nothing_is_not_guessed_at(tmp_path):
    (tmp_path / lock.NAME).write_text("{")
    with pytest.raises(Corrupt), lock.hold(tmp_path):
        pass


@pytest.mark.parametrize("change", [{"boot": "another"}, {"started": "1"}, {"pid": 2**22 + 1}])
def test_an_owner_proven_dead_is_replaced(tmp_path, change):
    with lock.hold(tmp_path):
        said = json.loads((tmp_path / lock.NAME).read_text())
    (tmp_path / lock.NAME).write_text(json.dumps({**said, **change}))
    with lock.hold(tmp_path):
        assert json.loads((tmp_path / lock.NAME).read_text())["pid"] == os.getpid()


def test_an_earlier_life_of_the_same_slurm_job_is_dead_wherever_it_was(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    with lock.hold(tmp_path):
        said = json.loads((tmp_path / lock.NAME).read_text())
    (tmp_path / lock.NAME).write_text(json.dumps({**said, "host": "node-that-failed"}))
    with pytest.raises(BadInput, match="node-that-failed"), lock.hold(tmp_path):
        pass  # the same life on two machines would be two writers
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with lock.hold(tmp_path):
        pass
    (tmp_path / lock.NAME).write_text(json.dumps({**said, "host": "node-that-failed", "job": "16"}))
    with pytest.raises(BadInput, match="node-that-failed"), lock.hold(tmp_path):
        pass


def test_what_launchers_send_more_than_once_is_obeyed_once():
    with graceful():
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1):
            os.kill(os.getpid(), number)
        assert stop_requested()
