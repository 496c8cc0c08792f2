"""A capture shared out over the processes of torchrun: killed at random moments and gone on with by any number of them, it ends
in the bytes of one process.

Children have the environment that torchrun gives and speak over gloo; they are forked from a server that has imported
everything. A test at the end starts torchrun itself.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import capture_child
import pytest
from tests.training._together import Run

from actscope.cli import main
from actscope.core import artifact, files, group
from actscope.core.errors import ActscopeError
from actscope.core.progress import graceful
from actscope.stores.disk import DiskStore

PAUSE = 0.01  # seconds a run of the model takes, so that a kill often hits one
POINTS = ("file.before", "file.written", "file.synced", "file.renamed", "file.after", "capture.shard", "capture.commit")


def command(out: Path, said: Path | None = None, pause: float = PAUSE, patience: float = 15.0) -> str | None:
    """What every process does: the capture, or the error's sentence into a file and its exit code."""
    group.PATIENCE = group.WRITING = group.timedelta(seconds=patience)
    group.CONNECTING = group.timedelta(seconds=patience / 5)
    try:
        with graceful():
            return capture_child.capture(out, pause=pause)[0].content
    except ActscopeError as error:
        if said is not None:
            files.write_text(said / os.environ["RANK"], str(error))
        sys.exit(error.exit_code)


@pytest.fixture(scope="module")
def expected() -> str:
    """The content hash of a capture by one process that nobody disturbs."""
    store, shown = capture_child.capture()
    assert len(shown) > 12, "too few units to be shared out"
    return store.content


def written(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in out.glob("unit-*")}


def finished(out: Path, expected: str, size: int) -> None:
    """So many processes end in the same bytes, repeat nothing that stands and leave nothing behind."""
    kept, before = capture_child.standing(out), written(out)
    assert Run(size, command, out).results() == [expected] * size
    after = written(out)
    assert all(after[name] == before[name] for name in kept), "a unit that stood was written again"
    assert {path.name for path in out.iterdir()} == {"about.json", "manifest.json", *artifact.read_manifest(out)["files"]}
    store = DiskStore(out)
    assert sum(len(batch) for batch in store.batches(store.ports, 64)) == len(store)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_any_number_of_processes_writes_the_store_of_one(tmp_path, expected, size):
    finished(tmp_path / "s", expected, size)


def killed_again_and_again(out: Path, expected: str, kills: int, seed: int) -> None:
    """SIGKILL to some or all processes at random moments, so many times; each life has 1, 2 or 3 processes, and another number
    than the one before it. A folder that is finished is begun anew; a life that ends before its kill does not count."""
    draw, size, killed, lives, number = random.Random(seed), 0, 0, 0, 0
    while killed < kills:
        size = draw.choice([n for n in (1, 2, 3) if n != size])
        life = Run(size, command, out / str(number))
        wanted = len(written(out / str(number))) + draw.randint(0, 3)
        end = time.monotonic() + 60
        while len(written(out / str(number))) < wanted and time.monotonic() < end and life.children[0].is_alive():
            time.sleep(0.002)
        time.sleep(draw.random() * 0.05)
        for rank in draw.sample(range(size), draw.randint(1, size)):
            life.kill(rank)
        codes = life.codes(within=60)
        assert set(codes) <= {0, 4, -signal.SIGKILL}, codes  # those left over say that one is lost, and stop
        capture_child.standing(out / str(number))
        killed += -signal.SIGKILL in codes
        lives += 1
        assert lives < 2 * kills + 3, "lives are over before they are killed"
        if complete(out / str(number)):
            finished(out / str(number), expected, draw.choice((1, 2, 3)))
            number += 1
    finished(out / str(number), expected, draw.choice((1, 2, 3)))


def complete(out: Path) -> bool:
    return (out / "manifest.json").exists() and artifact.read_manifest(out)["complete"]


def test_killed_at_random_with_another_number_of_processes_each_time(tmp_path, expected):
    killed_again_and_again(tmp_path, expected, 3, seed=1)


@pytest.mark.full
def test_killed_thirty_times_at_random_with_another_number_of_processes_each_time(tmp_path, expected):
    killed_again_and_again(tmp_path, expected, 30, seed=0)


@pytest.mark.parametrize(("rank", "point", "at"), [(1, "capture.shard", 2), (1, "capture.commit", 1), (0, "file.renamed", 8)])
def test_killed_at_a_point_of_the_writer(tmp_path, expected, rank, point, at):
    codes = Run(2, command, tmp_path / "s", faults={rank: f"{point}:kill:{at}"}).codes()
    assert codes[rank] == -signal.SIGKILL and codes[1 - rank] == 4, codes
    finished(tmp_path / "s", expected, 3 - rank)


@pytest.mark.full
@pytest.mark.parametrize("at", range(1, 7))
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_every_point_of_the_writer(tmp_path, expected, rank, point, at):
    codes = Run(2, command, tmp_path / "s", faults={rank: f"{point}:kill:{at}"}).codes()
    assert codes[rank] in (0, -signal.SIGKILL) and codes[1 - rank] in (0, 4), codes
    finished(tmp_path / "s", expected, 1 + at % 3)


def test_a_disk_that_is_full_for_one_stops_all_with_its_code(tmp_path, expected):
    (tmp_path / "said").mkdir()
    codes = Run(2, command, tmp_path / "s", tmp_path / "said", faults={1: "file.written:full:2"}).codes()
    assert codes == [5, 5]
    assert "This was process 1 of 2" in (tmp_path / "said" / "0").read_text()
    finished(tmp_path / "s", expected, 1)


def test_a_termination_signal_to_one_is_obeyed_and_saved_by_all(tmp_path, expected):
    out = tmp_path / "s"
    both = Run(2, command, out, None, 0.1)
    while len(written(out)) < 2:
        time.sleep(0.005)
    both.kill(1, signal.SIGTERM)
    assert both.codes() == [4, 4]
    assert not list(out.glob("journal-*")) and capture_child.standing(out)
    finished(out, expected, 3)


def test_a_second_run_on_the_folder_is_refused_in_all_its_processes_by_the_owners_name(tmp_path, expected):
    out = tmp_path / "s"
    (tmp_path / "said").mkdir()
    first = Run(2, command, out, None, 0.1)
    while not written(out):
        time.sleep(0.005)
    assert Run(2, command, out, tmp_path / "said").codes() == [3, 3]
    for rank in "01":
        assert f"is being written by process {first.children[0].pid} on" in (tmp_path / "said" / rank).read_text()
    assert first.results() == [expected] * 2


def test_a_damaged_journal_is_set_aside_and_its_units_run_again(tmp_path, expected):
    out = tmp_path / "s"
    assert Run(2, command, out, faults={1: "capture.commit:kill:2"}).codes()[1] == -signal.SIGKILL
    journals = list(out.glob("journal-*-0001.json"))
    assert len(journals) == 1
    journals[0].write_bytes(journals[0].read_bytes().replace(b'"rows": ', b'"rows": 1'))
    assert Run(1, command, out).results() == [expected]
    assert len(list(out.glob(".corrupt-journal-*"))) == 1


def test_torchrun_starts_the_command_and_stops_at_the_tokens_where_one_process_does(tmp_path, capsys):
    """`actscope capture` on a real model: the words are said once, and the content is that of one process."""
    text = tmp_path / "notes.md"
    text.write_text("\n\n".join(f"Note {n}: " + "words and words. " * (n % 34) for n in range(400)))
    given = ["-m", "actscope", "capture", "pocket-mini", str(text), "--site", "layers.0.mlp_out", "--threads", "1", "--json"]
    given += ["--tokens", "17000"]
    here = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *given, "--out", str(tmp_path / "a")]
    done = subprocess.run(torchrun, capture_output=True, text=True, timeout=240, cwd=tmp_path, env=here)
    assert done.returncode == 0, done.stderr
    together = json.loads(done.stdout)
    assert main([*given[2:], "--out", str(tmp_path / "b")]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert together["content"] == alone["content"] and together["rows"] == alone["rows"] >= 17000


SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = [str(Path(sys.argv[1]))]
import torch
torch.set_num_threads(1)
import capture_child
from actscope.core.errors import ActscopeError
from actscope.core.progress import graceful
try:
    with graceful():
        print(capture_child.capture(Path(sys.argv[2]), pause=0.02)[0].content)
except ActscopeError as error:
    sys.exit(error.exit_code)
"""


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they did."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


@pytest.mark.full
def test_torchrun_itself_killed_with_all_it_started_or_one_process_of_it(tmp_path, expected):
    """As above with torchrun's own processes: seven lives, of which six are killed."""
    (tmp_path / "script.py").write_text(SCRIPT)
    here = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    draw, out, size = random.Random(0), tmp_path / "s", 0
    for life in range(7):
        size = draw.choice([n for n in (1, 2, 3) if n != size])
        words = ["-m", "torch.distributed.run", "--nproc-per-node", str(size), str(tmp_path / "script.py")]
        words += [str(Path(__file__).parent), str(out)]
        run = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=here)
        wanted = len(written(out)) + (draw.randint(0, 2) if life < 6 else 10**9)
        while len(written(out)) < wanted and run.poll() is None:
            time.sleep(0.002)
        every = descendants(run.pid)
        for pid in every if draw.random() < 0.5 else [draw.choice(every[1:] or every)]:
            if life < 6:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        said = run.communicate(timeout=240)[0]
        capture_child.standing(out)
    assert run.returncode == 0 and set(said.split()) == {expected}
    assert {path.name for path in out.iterdir()} == {"about.json", "manifest.json", *artifact.read_manifest(out)["files"]}
