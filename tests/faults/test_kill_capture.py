"""Killed at any moment, out of room or stopped: what was committed stands, and the same call ends in the same bytes."""

import contextlib
import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path

import capture_child
import pytest

from actscope.core import artifact
from actscope.stores.disk import DiskStore

# Every named point of the writer and of capture. test_every_fault_point_is_here keeps this list whole.
POINTS = ("file.before", "file.written", "file.synced", "file.renamed", "file.after", "capture.shard", "capture.commit")


PAUSE = 0.01  # seconds a run of the model takes, so that a kill often hits one


@pytest.fixture(scope="module")
def processes():
    """A server that has imported everything and forks a process for each capture: a real one, there in no time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        patch.setenv("OMP_NUM_THREADS", "1")
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["capture_child"])
        yield context


@pytest.fixture(scope="module")
def expected() -> str:
    """The content hash of a capture that nobody disturbs."""
    store, shown = capture_child.capture()
    assert len(shown) > 12, "too few units to be killed between"
    return store.content


class Child:
    """One capture in its own process."""

    def __init__(self, processes, out: Path, pause: float = 0.0, fault: str = ""):
        self.pipe, theirs = processes.Pipe(duplex=False)
        self.process = processes.Process(target=capture_child.main, args=(out, pause, fault, theirs))
        self.process.start()
        theirs.close()
        assert self.pipe.recv() == "ready"

    def send(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def end(self) -> tuple[int, list]:
        """(exit code, all it said)."""
        self.process.join(120)
        said = []
        while self.pipe.poll():
            try:
                said.append(self.pipe.recv())
            except EOFError:
                break
        return self.process.exitcode, said


@pytest.fixture(scope="module")
def start(processes):
    return lambda *given, **rest: Child(processes, *given, **rest)


@pytest.fixture(scope="module")
def seconds(start, tmp_path_factory, expected) -> float:
    """How long a child's capture takes when left alone."""
    child = start(tmp_path_factory.mktemp("alone") / "s", PAUSE)
    began = time.monotonic()
    code, said = child.end()
    assert code == 0 and said[-1] == expected
    return time.monotonic() - began


def check_what_stands(out: Path) -> int:
    """Whatever the manifest names is whole. Returns the rows committed."""
    if not (out / "manifest.json").exists():
        return 0
    assert not artifact.damaged(out)
    manifest = artifact.read_manifest(out)
    assert len(manifest["units"]) == len(manifest["files"])
    return manifest["rows"]


def finish(out: Path, expected: str, committed: int) -> None:
    """The same call again, here: it repeats nothing that was committed and ends in the same bytes."""
    store, shown = capture_child.capture(out)
    assert store.content == expected
    assert shown[:1] > [committed] or committed == len(store)
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["about.json", "manifest.json", *artifact.read_manifest(out)["files"]]
    ), "leftovers"
    assert sum(len(batch) for batch in DiskStore(out).batches(store.ports, 64)) == len(store)


def killed_at_random_moments(start, out: Path, expected: str, seconds: float, seed: int) -> None:
    """SIGKILL somewhere in the time a capture takes, three times over or until it is done; then the same call to its end."""
    draw = random.Random(seed)
    kills = 0
    for _ in range(3):
        child = start(out, PAUSE)
        time.sleep(draw.random() * seconds * 0.5)
        with contextlib.suppress(ProcessLookupError):
            child.send(signal.SIGKILL)
        code = child.end()[0]
        if code == 0:  # it went on from the last kill and was done before this one
            break
        assert code == -signal.SIGKILL
        kills += 1
        check_what_stands(out)
    assert kills, "nothing was killed"
    finish(out, expected, check_what_stands(out))


@pytest.mark.parametrize("seed", range(5))
def test_killed_at_random_moments(start, tmp_path, expected, seconds, seed):
    killed_at_random_moments(start, tmp_path / "s", expected, seconds, seed)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(100, 120))
def test_killed_at_more_random_moments(start, tmp_path, expected, seconds, seed):
    killed_at_random_moments(start, tmp_path / "s", expected, seconds, seed)


def killed_at_point(start, out: Path, expected: str, point: str, hit: int) -> None:
    code, _ = start(out, fault=f"{point}:kill:{hit}").end()
    assert code == -signal.SIGKILL, f"{point} was not reached {hit} times"
    finish(out, expected, check_what_stands(out))


@pytest.mark.parametrize("hit", [1, 8])
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_every_point_of_writing(start, tmp_path, expected, point, hit):
    killed_at_point(start, tmp_path / "s", expected, point, hit)


@pytest.mark.full
@pytest.mark.parametrize("hit", [2, 3, 4, 5, 6, 7, 9, 10])
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_every_point_of_writing_many_times(start, tmp_path, expected, point, hit):
    killed_at_point(start, tmp_path / "s", expected, point, hit)


def full_disk(start, out: Path, expected: str, hit: int) -> None:
    code, said = start(out, fault=f"file.written:full:{hit}").end()
    assert code == 5 and "No room to write" in said[-1] and "run the same command again" in said[-1]
    assert not out.exists() or not list(out.glob(".*")), "leftovers take room"
    finish(out, expected, check_what_stands(out))


@pytest.mark.parametrize("hit", [1, 2, 3, 9, 10, 11])
def test_a_full_disk_keeps_what_is_committed(start, tmp_path, expected, hit):
    full_disk(start, tmp_path / "s", expected, hit)


@pytest.mark.full
@pytest.mark.parametrize("hit", range(4, 40))
def test_a_full_disk_at_every_write(start, tmp_path, expected, hit):
    full_disk(start, tmp_path / "s", expected, hit)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_saves_and_says_how_to_go_on(start, tmp_path, expected, sent):
    child = start(tmp_path / "s", PAUSE)
    first = child.pipe.recv()
    child.send(sent)
    code, said = child.end()
    assert code == 4 and "the same command goes on" in said[-1]
    committed = check_what_stands(tmp_path / "s")
    assert committed >= first
    finish(tmp_path / "s", expected, committed)


def test_asked_twice_it_stops_at_once_and_what_was_committed_stands(start, tmp_path, expected):
    child = start(tmp_path / "s", pause=0.3)
    child.pipe.recv()
    began = time.monotonic()
    child.send(signal.SIGINT)
    time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):  # it may have stopped already
        child.send(signal.SIGINT)
    assert child.end()[0] == 4 and time.monotonic() - began < 5
    finish(tmp_path / "s", expected, check_what_stands(tmp_path / "s"))


def test_two_writers_at_once_one_is_refused_by_name(start, tmp_path, expected):
    first = start(tmp_path / "s", PAUSE)
    first.pipe.recv()
    code, said = start(tmp_path / "s").end()
    assert code == 3 and f"process {first.process.pid}" in said[-1]
    code, said = first.end()
    assert code == 0 and said[-1] == expected


def test_every_fault_point_is_here():
    """A point added to the code is killed at too."""
    import ast

    import actscope

    found = set()
    for path in Path(actscope.__file__).parent.rglob("*.py"):
        if "training" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node.func, "attr", getattr(node.func, "id", "")) if isinstance(node, ast.Call) else ""
            if name == "fault_point":
                found.add(ast.literal_eval(node.args[0]))
    elsewhere = {"latents.batch"}  # test_kill_latent_cache.py
    assert found == {*POINTS, *elsewhere}
