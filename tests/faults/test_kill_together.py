"""Fits shared out over processes: killed and resumed with as many, bitwise; with another number, to the same losses."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tests.training._captured import captured
from tests.training._together import Run

from actscope.cli import main
from actscope.core import artifact, group

FLAGS = ["--read", "layers.0.mlp_in", "--latents", "600", "--k", "3", "--dead-after", "500"]
FLAGS += ["--rows", "9000", "--batch", "150", "--every", "8"]  # 60 steps, 7 checkpoints, every loss in the manifest
POINTS = ["file.before", "file.written", "file.synced", "file.renamed", "file.after", "fit.step", "fit.retire"]


def command(store: Path, out: Path, flags: tuple[str, ...] = (), patience: float | None = None) -> None:
    """What every process does: `actscope fit`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if patience is not None:
        group.PATIENCE = group.WRITING = group.timedelta(seconds=patience)
        group.CONNECTING = group.timedelta(seconds=patience / 5)
    code = main(["fit", "topk", str(store), *FLAGS, *flags, "--out", str(out)])
    if code:
        sys.exit(code)


def run(store: Path, out: Path, size: int = 2, *, over: int = 1, faults: dict[int, str] | None = None) -> list[int | None]:
    return Run(size, command, store, out, ("--latents-over", str(over)), faults=faults).codes()


def losses(out: Path) -> list[dict[str, float]]:
    return artifact.read_manifest(out)["extra"]["fit"]["losses"]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("kill") / "acts"
    captured(path)
    return path


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory) -> tuple[Path, float]:
    """Where two processes that nobody disturbs end, and after how many seconds."""
    out = tmp_path_factory.mktemp("whole") / "sae"
    started = time.monotonic()
    assert run(store, out) == [0, 0]
    return out, time.monotonic() - started


@pytest.fixture(scope="module")
def one(store, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("one") / "sae"
    assert run(store, out, 1) == [0]
    return out


def content(out: Path) -> str:
    return artifact.read_manifest(out)["content"]


def finished(store: Path, out: Path, wanted: Path, size: int = 2) -> None:
    """The same command ends as an undisturbed run does, byte for byte, and leaves nothing else behind."""
    assert run(store, out, size) == [0] * size
    assert content(out) == content(wanted)
    assert {path.name for path in out.iterdir()} == {"manifest.json", "about.json", *artifact.read_manifest(out)["files"]}
    artifact.open(out)


def killed_at_random(store: Path, out: Path, whole: tuple[Path, float], seed: int) -> None:
    draw = random.Random(seed)
    moment, who = draw.uniform(0, whole[1]), draw.choice([[0], [1], [0, 1]])
    both = Run(2, command, store, out, (), 15.0)
    time.sleep(moment)
    for rank in who:
        both.kill(rank)
    codes = both.codes(within=60)
    for rank, code in enumerate(codes):
        assert code in ((0, -signal.SIGKILL) if rank in who else (0, 4)), codes  # the others say so and stop
    finished(store, out, whole[0])


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_a_random_moment(store, tmp_path, whole, seed):
    killed_at_random(store, tmp_path / "sae", whole, seed)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(2, 20))
def test_killed_at_more_random_moments(store, tmp_path, whole, seed):
    killed_at_random(store, tmp_path / "sae", whole, seed)


def killed_at(store: Path, out: Path, whole: tuple[Path, float], rank: int, point: str, at: int) -> None:
    codes = run(store, out, faults={rank: f"{point}:kill:{at}"})
    assert codes[rank] == -signal.SIGKILL and codes[1 - rank] == 4, codes
    finished(store, out, whole[0])


@pytest.mark.parametrize(("rank", "point", "at"), [(1, "file.synced", 3), (1, "file.after", 2), (0, "file.renamed", 8)])
def test_killed_at_a_point_of_the_writer(store, tmp_path, whole, rank, point, at):
    """Rank 1 before or after its own file stands; rank 0 before the manifest that commits both."""
    killed_at(store, tmp_path / "sae", whole, rank, point, at)


@pytest.mark.full
@pytest.mark.parametrize("at", range(1, 7))
@pytest.mark.parametrize(
    ("rank", "point"), [(rank, point) for rank in (0, 1) for point in POINTS if (rank, point) != (1, "fit.retire")]
)
def test_killed_at_every_point_of_the_writer(store, tmp_path, whole, rank, point, at):
    killed_at(store, tmp_path / "sae", whole, rank, point, at)


def close(out: Path, wanted: Path, rtol: float) -> None:
    found, undisturbed = losses(out), losses(wanted)
    assert [line["step"] for line in found] == list(range(1, 61)) == [line["step"] for line in undisturbed]
    for line, other in zip(found[:50], undisturbed[:50], strict=True):
        assert line["loss"] == pytest.approx(other["loss"], rel=rtol)
    assert found[-1]["fvu"] == pytest.approx(undisturbed[-1]["fvu"], abs=0.002)


def test_one_then_two_then_one_process_give_the_losses_of_one(store, tmp_path, one):
    out = tmp_path / "sae"
    assert run(store, out, 1, faults={0: "fit.step:kill:19"}) == [-signal.SIGKILL]
    assert run(store, out, 2, faults={1: "fit.step:kill:21"}) == [4, -signal.SIGKILL]
    assert run(store, out, 1) == [0]
    close(out, one, 1e-3)
    assert [file for file in artifact.read_manifest(out)["files"]] and not (out / "checkpoints").exists()


def test_latents_split_over_two_then_in_one_give_the_losses_of_one(store, tmp_path, one):
    out = tmp_path / "sae"
    assert run(store, out, 2, over=2, faults={0: "fit.step:kill:30"}) == [-signal.SIGKILL, 4]
    files = sorted(path.name for path in (out / "checkpoints" / "step-00000024").iterdir())
    assert files == ["about.json", "manifest.json", "state-0-of-2.safetensors", "state-1-of-2.safetensors"]
    saved = artifact.read_manifest(out / "checkpoints" / "step-00000024")
    assert [piece[1:] for piece in sorted(saved["rows"]["model.encoder"])] == [[0, 300], [300, 300]]
    assert run(store, out, 1) == [0]
    close(out, one, 1e-4)
    again = tmp_path / "again"
    assert run(store, again, 1, faults={0: "fit.step:kill:30"}) == [-signal.SIGKILL]
    assert run(store, again, 2, over=2) == [0, 0]
    close(again, one, 1e-4)
    dictionary = artifact.open(again)
    assert dictionary.encoder.shape == (600, 12)  # type: ignore[attr-defined]


@pytest.mark.full
@pytest.mark.parametrize("sizes", [(2, 1, 3), (3, 2, 1), (4, 2, 4)])
def test_more_worlds_give_the_losses_of_one(store, tmp_path, one, sizes):
    out = tmp_path / "sae"
    for size in sizes[:-1]:
        codes = run(store, out, size, faults={size - 1: "fit.step:kill:20"})
        assert codes == [4] * (size - 1) + [-signal.SIGKILL]
    assert run(store, out, sizes[-1], over=2 if sizes[-1] == 4 else 1) == [0] * sizes[-1]
    close(out, one, 1e-3)


def test_a_disk_that_is_full_for_one_process_stops_all_with_its_code(store, tmp_path, whole):
    assert run(store, tmp_path / "sae", faults={1: "file.written:full:2"}) == [5, 5]
    finished(store, tmp_path / "sae", whole[0])


def test_a_termination_signal_to_one_process_is_obeyed_and_saved_by_all(store, tmp_path, whole):
    out = tmp_path / "sae"
    both = Run(2, command, store, out)
    while not (out / "checkpoints").exists():
        time.sleep(0.005)
    both.kill(1, signal.SIGTERM)
    assert both.codes() == [4, 4]
    finished(store, out, whole[0])


@pytest.mark.full
def test_a_process_that_does_not_answer_is_given_up_after_a_while(store, tmp_path, whole):
    out = tmp_path / "sae"
    both = Run(2, command, store, out, (), 3.0)
    while not (out / "checkpoints").exists():
        time.sleep(0.005)
    both.kill(1, signal.SIGSTOP)
    started = time.monotonic()
    both.children[0].join(60)
    assert both.children[0].exitcode == 4 and time.monotonic() - started < 30
    both.codes(within=0)
    finished(store, out, whole[0])


def torchrun(*given: str, size: int = 2, cwd: Path) -> subprocess.CompletedProcess:
    here = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    what = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(size), *given]
    return subprocess.run(what, capture_output=True, text=True, timeout=240, cwd=cwd, env=here)


def test_torchrun_runs_the_command(store, tmp_path, whole):
    """The words are said once, and the files are those of the other tests here."""
    done = torchrun("-m", "actscope", "fit", "topk", str(store), *FLAGS, "--out", str(tmp_path / "sae"), "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["content"] == content(whole[0])


@pytest.mark.full
def test_torchrun_starts_the_processes_again_after_one_died(store, tmp_path, whole):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\n"
        "if os.environ['RANK'] + os.environ['TORCHELASTIC_RESTART_COUNT'] == '10':\n"
        "    os.environ['ACTSCOPE_FAULT'] = 'fit.step:kill:20'\n"
        "from actscope.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    out = tmp_path / "sae"
    done = torchrun("--max-restarts", "1", str(script), "fit", "topk", str(store), *FLAGS, "--out", str(out), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert content(out) == content(whole[0])


def test_one_process_computes_what_it_did_before_there_were_others(one, whole):
    """One and two processes differ in the order of sums alone."""
    close(whole[0], one, 1e-4)
    a, b = artifact.open(one), artifact.open(whole[0])
    torch.testing.assert_close(a.centre, b.centre, rtol=1e-3, atol=1e-4)  # type: ignore[attr-defined]
