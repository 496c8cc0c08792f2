"""The script for Slurm that `actscope capture --sbatch` prints: bash takes it, its command is the capture, and it queues again.

No Slurm is here: its two commands are stood in for by scripts that do what Slurm documents of them.
"""

import os
import shlex
import shutil
import signal
import subprocess
import time

import pytest

from actscope.cli import _common, main
from actscope.core.errors import UsageError

CAPTURE = ["capture", "pocket", "my notes.md", "--site", "layers.2.resid_post", "--site", "layers.*.mlp_out", "--out", "acts"]
CAPTURE += ["--tokens", "1000000", "--packed"]


def printed(capsys, *words: str) -> str:
    assert main([*CAPTURE, *words]) == 0
    return capsys.readouterr().out


def test_the_command_in_it_is_the_capture(capsys):
    script = printed(capsys, "--device", "cuda", "--sbatch", "nodes=2,gpus=4,time=12:00:00,partition=a100,mem=200G")
    assert subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True).returncode == 0
    line = next(line for line in script.splitlines() if line.startswith("  -m "))
    assert shlex.split(line.removesuffix("&"))[2:] == [*CAPTURE, "--device", "cuda"]
    for head in ("--nodes=2", "--gpus-per-node=4", "--time=12:00:00", "--partition=a100", "--mem=200G", "--requeue"):
        assert f"#SBATCH {head}\n" in script
    assert "--nproc-per-node=4 " in script


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed here")
def test_shellcheck_has_nothing_to_say(capsys):
    script = printed(capsys, "--sbatch", "gpus=0")
    done = subprocess.run(["shellcheck", "-"], input=script, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout


def test_a_model_over_all_accelerators_is_one_process_a_machine(capsys):
    assert "--nproc-per-node=1 " in printed(capsys, "--device", "auto", "--sbatch", "gpus=8")


@pytest.mark.parametrize(
    "words, said",
    [(["gpus=4"], "--device is cpu"), (["nodes=none", "--device", "cuda"], "nodes="), (["queue=a"], "cannot be")],
)
def test_what_cannot_be_is_refused(capsys, words, said):
    assert main([*CAPTURE, "--sbatch", *words]) == 2
    assert said in capsys.readouterr().err.replace("\n", " ")


def started(script: str, tmp_path, torchrun: str) -> subprocess.Popen:
    fakes = {
        "scontrol": 'if [ "$1" = requeue ]; then echo "$2" >> requeued; else echo node7; fi',
        "srun": 'shift\nexec "$@"',
        "torchrun": f'echo "$@" >> ran\n{torchrun}',
    }
    for name, body in fakes.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "job.sbatch").write_text(script)
    env = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "17",
        "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_NNODES": "2",
    }
    return subprocess.Popen(["bash", "job.sbatch"], cwd=tmp_path, env=env)


def test_before_its_time_is_over_it_saves_and_queues_again(capsys, tmp_path):
    job = started(
        printed(capsys, "--sbatch", "gpus=0"), tmp_path, "trap 'echo saved >> ran; exit 1' TERM\nwhile :; do sleep 0.05; done"
    )
    while not (tmp_path / "ran").exists():
        time.sleep(0.01)
    time.sleep(0.1)
    job.send_signal(signal.SIGUSR1)  # to the script alone, as --signal=B:USR1@180 says
    assert job.wait(20) == 1
    ran = (tmp_path / "ran").read_text().splitlines()
    assert "--nnodes=2 --nproc-per-node=1" in ran[0] and "--rdzv-endpoint=node7:29400 --rdzv-id=17-0" in ran[0]
    assert ran[1] == "saved" and (tmp_path / "requeued").read_text() == "17\n"


@pytest.mark.parametrize("code", [0, 3])
def test_ended_by_itself_it_does_not_queue_again(capsys, tmp_path, code):
    assert started(printed(capsys, "--sbatch", "gpus=0"), tmp_path, f"exit {code}").wait(20) == code
    assert not (tmp_path / "requeued").exists()


def test_each_process_of_a_machine_takes_its_own_accelerator(monkeypatch):
    assert _common.own_device("cuda") == "cuda"
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert (_common.own_device("cuda"), _common.own_device("cpu"), _common.own_device("cuda:1")) == ("cuda:3", "cpu", "cuda:1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="one process on each"):
        _common.own_device("auto")
