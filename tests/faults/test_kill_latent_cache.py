"""kill -9 at any moment of a latent cache, then the same call: to the byte what an undisturbed one leaves.

Children are forked from a server that has imported everything, so each costs milliseconds.
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

from actscope.core import artifact
from actscope.core.errors import ActscopeError
from actscope.dictionaries.topk import TopK
from actscope.stores import latent_cache as module

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.faults.test_kill_latent_cache"])
POINTS = ["file.before", "file.written", "file.synced", "file.renamed", "file.after", "latents.batch"]
SITE = "layers.0.mlp_in"


def collect(store: Path, out: Path, fault: str) -> None:
    """What a child does, committing after every batch of 256 rows."""
    os.environ["ACTSCOPE_FAULT"] = fault
    torch.set_num_threads(1)
    module.ROWS, module._EVERY = 256, 0.0
    rows = artifact.open(store)
    made = TopK(reads={SITE: 12}, n_latents=48, k=4).eval()
    try:
        module.latent_cache(made, rows, per_document=2, sample=16, near=3, out=out)  # type: ignore[arg-type]
    except ActscopeError as error:
        sys.exit(error.exit_code)


def run(store: Path, out: Path, *, fault: str = "", after: float | None = None) -> int:
    """Exit code of one child; killed after so many seconds when asked."""
    child = SERVER.Process(target=collect, args=(store, out, fault))
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
    path = tmp_path_factory.mktemp("latents") / "acts"
    captured(path, sites=(SITE,))
    return path


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory) -> tuple[dict[str, bytes], float]:
    """Files and seconds of a call that nobody disturbs."""
    out = tmp_path_factory.mktemp("undisturbed") / "cache"
    assert run(store, out.with_name("warm")) == 0
    began = time.monotonic()
    assert run(store, out) == 0
    return content(out), time.monotonic() - began


def content(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.name != "about.json"}


def finished(store: Path, out: Path, wanted: dict[str, bytes]) -> None:
    assert run(store, out) == 0
    assert content(out) == wanted, "other bytes, or something left behind"
    artifact.open(out)


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.full) for seed in range(3, 20))])
def test_killed_at_a_random_moment_of_a_cache(store, tmp_path, whole, seed):
    code = run(store, tmp_path / "cache", after=random.Random(seed).uniform(0, whole[1]))
    assert code in (0, -signal.SIGKILL)
    finished(store, tmp_path / "cache", whole[0])


@pytest.mark.parametrize(
    ("point", "at"),
    [
        *((point, 2 + 5 * number) for number, point in enumerate(POINTS)),
        *(pytest.param(point, at, marks=pytest.mark.full) for point in POINTS for at in (1, 3, 11, 18, 30, 47)),
    ],
)
def test_killed_at_a_point_of_the_writer_of_a_cache(store, tmp_path, whole, point, at):
    at = min(at, 20) if point == "latents.batch" else at
    assert run(store, tmp_path / "cache", fault=f"{point}:kill:{at}") == -signal.SIGKILL
    finished(store, tmp_path / "cache", whole[0])


def test_killed_again_and_again_it_still_ends(store, tmp_path, whole):
    """Each life dies at its fifth batch, four of which it committed."""
    lives = 0
    while run(store, tmp_path / "cache", fault="latents.batch:kill:5") == -signal.SIGKILL:
        lives += 1
        assert lives < 12
    assert lives > 3
    finished(store, tmp_path / "cache", whole[0])


@pytest.mark.parametrize(("point", "at"), [("file.written", 1), ("file.before", 30), ("file.renamed", 45)])
def test_a_full_disk_ends_a_cache_with_its_own_code_and_loses_nothing(store, tmp_path, whole, point, at):
    assert run(store, tmp_path / "cache", fault=f"{point}:full:{at}") == 5
    finished(store, tmp_path / "cache", whole[0])


def test_a_damaged_state_is_named_and_nothing_is_made_of_it(store, tmp_path):
    assert run(store, tmp_path / "cache", fault="latents.batch:kill:4") == -signal.SIGKILL
    file = next((tmp_path / "cache").glob("tensors-*-fired.safetensors"))
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    assert run(store, tmp_path / "cache") == 6
