"""A verb as a job of Slurm: the script is printed, nothing is submitted."""

import inspect
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from typing import Any

from actscope.cli import _common
from actscope.core.errors import UsageError

_TAKES = {
    "nodes": ("1", r"[1-9]\d*", ""),
    "gpus": ("1", r"\d+", "gpus-per-node"),
    "time": ("24:00:00", r"[\d:-]+", "time"),
    "cpus": ("", r"[1-9]\d*", "cpus-per-task"),
    "mem": ("", r"\d+[KMGT]?", "mem"),
    "partition": ("", r"[\w,.-]+", "partition"),
    "account": ("", r"[\w.-]+", "account"),
}
_SCRIPT = """\
#!/bin/bash
{heads}
#SBATCH --ntasks-per-node=1
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
# Save as capture.sbatch and submit with: sbatch capture.sbatch
# Three minutes before its time is over every process finishes its unit and saves; the job then queues again and goes on.
# Killed at any other moment, or submitted again with other nodes and gpus, it goes on as well and ends in the same bytes.
set -u
asked=0
work=
trap 'asked=1; [ -z "$work" ] || kill -TERM "$work"' USR1
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun --kill-on-bad-exit=1 torchrun \\
  --nnodes="$SLURM_NNODES" --nproc-per-node={processes} --max-restarts=0 \\
  --rdzv-backend=c10d --rdzv-endpoint="$head:29400" --rdzv-id="$SLURM_JOB_ID-${{SLURM_RESTART_COUNT:-0}}" \\
  -m {command} &
work=$!
[ "$asked" = 0 ] || kill -TERM "$work"
while :; do
  wait "$work"
  code=$?
  kill -0 "$work" 2>/dev/null || break
done
if [ "$asked" = 1 ] && [ "$code" != 0 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


def print_script(verb: Callable[..., object], given: Mapping[str, Any]) -> None:
    """Print the script of a verb that was given these parameters. Raises UsageError for a request that cannot be."""
    if _common.speaks():
        sys.stdout.write(script(verb, given))


def script(verb: Callable[..., object], given: Mapping[str, Any]) -> str:
    """The script; `given["sbatch"]` is the request, such as nodes=2,gpus=4,time=12:00:00."""
    asked = _asked(given["sbatch"])
    gpus, device = int(asked["gpus"]), given["device"]
    if gpus and device == "cpu":
        raise UsageError(f"--sbatch asks for {gpus} gpus a node and --device is cpu; give --device cuda, or gpus=0.")
    heads = [f"#SBATCH --job-name=actscope-{verb.__name__}", f"#SBATCH --nodes={asked['nodes']}"]
    heads += [
        f"#SBATCH --{flag}={asked[name]}" for name, (_, _, flag) in _TAKES.items() if flag and asked[name] not in ("", "0")
    ]
    command = shlex.join(["actscope", *words(verb, given)])
    processes = 1 if device == "auto" else max(gpus, 1)
    return _SCRIPT.format(heads="\n".join(heads), processes=processes, command=command)


def words(verb: Callable[..., object], given: Mapping[str, Any]) -> list[str]:
    """The command line of a verb with these parameters, those at their defaults left out."""
    said = [verb.__name__]
    for name, parameter in inspect.signature(verb).parameters.items():
        value = given[name]
        if name in ("sbatch", "dry_run") or value == parameter.default:
            continue
        flag = f"--{name.replace('_', '-')}"
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            said.append(str(value))
        elif isinstance(value, bool):
            said.append(flag if value else f"--no-{name.replace('_', '-')}")
        else:
            said += [word for one in (value if isinstance(value, list) else [value]) for word in (flag, str(one))]
    return said


def _asked(text: str) -> dict[str, str]:
    asked = {name: default for name, (default, _, _) in _TAKES.items()}
    for part in filter(None, re.split(r",(?=\w+=)", text)):
        name, _, value = part.partition("=")
        if name not in _TAKES or not re.fullmatch(_TAKES[name][1], value):
            raise UsageError(f"--sbatch {text}: {part!r} cannot be; expected {', '.join(f'{known}=' for known in _TAKES)}.")
        asked[name] = value
    return asked
