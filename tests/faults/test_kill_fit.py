"""kill -9 at any moment of a fit, then the same command: bitwise the result of an uninterrupted run.

Children are forked from a server that has imported everything, so each costs milliseconds. They run the command itself.
"""

import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from tests.training._captured import captured

from actscope.cli import main
from actscope.core import artifact

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["cyclopts", "rich.console", "tests.faults.test_kill_fit"])
POINTS = ["file.before", "file.written", "file.synced", "file.renamed", "file.after", "fit.step", "fit.retire"]
FLAGS = ["--read", "layers.0.mlp_in", "--latents", "64", "--k", "3", "--dead-after", "500"]
FLAGS += ["--rows", "6000", "--batch", "150", "--every", "8"]  # 40 steps, 5 checkpoints


def command(store: Path, out: Path, fault: str, threads: int) -> None:
    """What a child does: `actscope fit`, with a fault if one is named."""
    os.environ["ACTSCOPE_FAULT"] = fault
    torch.set_num_threads(threads)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(main(["fit", "topk", str(store), *FLAGS, "--out", str(out)]))


def run(store: Path, out: Path, *, fault: str = "", threads: int = 1, after: float | None = None) -> int:
    """Exit code of one child; killed after so many seconds when asked."""
    child = SERVER.Process(target=command, args=(store, out, fault, threads))
    child.start()
    if after is not None:
        child.join(after)
        if child.is_alive():
            os.kill(child.pid, signal.SIGKILL)
    child.join(240)
    assert child.exitcode is not None, "the child hangs"
    return child.exitcode


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("kill") / "acts"
    captured(path)
    return path


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory) -> tuple[str, float]:
    """Content hash and seconds of a run that nobody disturbs."""
    out = tmp_path_factory.mktemp("whole") / "sae"
    assert run(store, out.with_name("warm")) == 0
    started = time.monotonic()
    assert run(store, out) == 0
    return artifact.read_manifest(out)["content"], time.monotonic() - started


def finished(store: Path, out: Path, wanted: str) -> None:
    """The same command ends as an uninterrupted run does, byte for byte, and leaves nothing else behind."""
    assert run(store, out) == 0
    manifest = artifact.read_manifest(out)
    assert manifest["content"] == wanted
    assert {path.name for path in out.iterdir()} == {"manifest.json", "about.json", *manifest["files"]}
    artifact.open(out)


def killed_at_random(store, out, whole, seed: int) -> None:
    moment = random.Random(seed).uniform(0, whole[1])
    code = run(store, out, after=moment)
    assert code in (0, -signal.SIGKILL)
    finished(store, out, whole[0])


@pytest.mark.parametrize("seed", range(5))
def test_killed_at_a_random_moment(store, tmp_path, whole, seed):
    killed_at_random(store, tmp_path / "sae", whole, seed)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(5, 20))
def test_killed_at_more_random_moments(store, tmp_path, whole, seed):
    killed_at_random(store, tmp_path / "sae", whole, seed)


def test_killed_again_and_again(store, tmp_path, whole):
    """Each life dies after eleven steps, three behind its last checkpoint: it takes five lives, and none is in vain."""
    lives = 0
    while run(store, tmp_path / "sae", fault="fit.step:kill:11") == -signal.SIGKILL:
        lives += 1
        assert lives < 10
    assert lives == 4
    finished(store, tmp_path / "sae", whole[0])


@pytest.mark.parametrize(
    ("point", "at"), [(point, 2 + 3 * number % 7) for number, point in enumerate(POINTS[:-1])] + [(POINTS[-1], 1)]
)
def test_killed_at_a_point_of_the_writer(store, tmp_path, whole, point, at):
    assert run(store, tmp_path / "sae", fault=f"{point}:kill:{at}") == -signal.SIGKILL
    finished(store, tmp_path / "sae", whole[0])


@pytest.mark.full
@pytest.mark.parametrize("at", range(1, 20))
@pytest.mark.parametrize("point", POINTS[:-1])
def test_killed_at_every_point_of_the_writer(store, tmp_path, whole, point, at):
    assert run(store, tmp_path / "sae", fault=f"{point}:kill:{at}") == -signal.SIGKILL
    finished(store, tmp_path / "sae", whole[0])


@pytest.mark.parametrize(("point", "at"), [("file.before", 1), ("file.written", 4), ("file.synced", 9), ("file.renamed", 18)])
def test_a_full_disk_ends_with_its_own_code_and_loses_nothing(store, tmp_path, whole, point, at):
    assert run(store, tmp_path / "sae", fault=f"{point}:full:{at}") == 5
    finished(store, tmp_path / "sae", whole[0])


def test_a_resumed_run_takes_the_thread_count_it_began_with(store, tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    assert run(store, a, threads=2) == 0
    assert run(store, b, threads=2, fault="fit.step:kill:20") == -signal.SIGKILL
    assert run(store, b, threads=1) == 0
    assert artifact.read_manifest(a)["content"] == artifact.read_manifest(b)["content"]
    assert artifact.read_manifest(b)["extra"]["fit"]["threads"] == 2


def test_a_termination_signal_is_obeyed_within_a_step_and_saved(store, tmp_path, whole):
    """SIGTERM, once the fit is under way: exit code 4, a checkpoint, and the same result afterwards."""
    out = tmp_path / "sae"
    child = SERVER.Process(target=command, args=(store, out, "", 1))
    child.start()
    while child.is_alive() and not (out / "manifest.json").exists():
        time.sleep(0.001)
    os.kill(child.pid, signal.SIGTERM)
    child.join(60)
    assert child.exitcode == 4
    assert list((out / "checkpoints").glob("step-*/manifest.json"))
    finished(store, out, whole[0])
