"""Capturing an MLP's output at a middle layer of Pythia-70m's shape, beside the same blocks by hand, nnsight, TransformerLens.

    python -m benchmarks.capture            # about ten minutes on 2 cores; writes benchmarks/results/capture.json
    python -m benchmarks.capture --quick    # 8 x 64 tokens, few rounds, no peers; writes nothing

64 x 256 tokens in float32. `actscope capture` is `act.capture` of texts into memory, end to end; `actscope run` is
`subject.run` alone. Every system runs in processes of its own environment, in turn; each round is followed by the floor, the
same blocks called by hand in chunks of 8 sequences (child_capture.py), and a ratio is the median over rounds. Peers run the
whole batch at once, as they come, and in chunks of 8 that are cut for them. Memory is that of one whole call.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from benchmarks._rows import row
from benchmarks.peers import environments
from rich.console import Console
from rich.table import Table

from actscope.core import files

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "capture.json"
FLOOR = "blocks by hand"
console = Console(highlight=False, width=None if Console().is_terminal else 140)


@dataclass(frozen=True)
class Entry:
    """One system as it is run. environment "": this one."""

    name: str
    system: str
    environment: str = ""
    sites: int = 1
    chunks: bool = False


OURS = (
    Entry("actscope capture 1 site", "actscope"),
    Entry("actscope capture 4 sites", "actscope", sites=4),
    Entry("actscope run 1 site", "actscope_run"),
    Entry("actscope run 4 sites", "actscope_run", sites=4),
)
PEERS = (
    Entry("nnsight, tracer.stop", "nnsight", "circuit-tracer"),
    Entry("nnsight, tracer.stop, chunks of 8", "nnsight", "circuit-tracer", chunks=True),
    Entry("TransformerLens, stop_at_layer", "transformer_lens", "sae-lens"),
    Entry("TransformerLens, stop_at_layer, chunks of 8", "transformer_lens", "sae-lens", chunks=True),
)


def ask(entry: Entry, task: str, **given: Any) -> dict[str, Any]:
    """One process of a system's own interpreter, run to its end."""
    python = str(environments.python_of(entry.environment)) if entry.environment else sys.executable
    path = f"{ROOT}" if entry.environment else f"{ROOT}{os.pathsep}{ROOT / 'src'}"
    env = {**os.environ, "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    shape = json.dumps({**given, "sites": entry.sites, "chunks": entry.chunks})
    command = [python, "-m", "benchmarks.peers.child_capture", entry.system, task, shape]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{entry.name} {task}: {done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(entries: Sequence[Entry], b: int, t: int, turns: int, count: int) -> list[dict]:
    ratios: dict[str, list[float]] = {entry.name: [] for entry in entries}
    seconds: dict[str, list[float]] = {entry.name: [] for entry in entries}
    for _ in range(turns):
        for entry in entries:
            found = ask(entry, "rounds", b=b, t=t, count=count)
            if found["apart"] is not None and found["apart"] > 1e-4:
                raise SystemExit(f"{entry.name} gives other values than the blocks by hand: {found['apart']:.1e} apart")
            ratios[entry.name] += [one / floor for one, floor in zip(found["system"], found["floor"], strict=True)]
            seconds[entry.name] += found["system"]
            console.print(f"  {entry.name}: {statistics.median(ratios[entry.name]):.3f} x {FLOOR}", style="dim")
    rows = []
    for entry in entries:
        every = sorted(ratios[entry.name])
        middle = statistics.median(every)
        name = f"{entry.name} fp32 {b}x{t}"
        rows.append(row(name, b * t / statistics.median(seconds[entry.name]), "tokens per second", ratio=1 / middle, of=FLOOR,
                        interval=(1 / every[-1], 1 / every[0])))  # fmt: skip
        rows.append(row(f"{name} memory", ask(entry, "memory", b=b, t=t)["mib"], "MiB"))
    return rows + compared({row["what"]: row for row in rows}, f"fp32 {b}x{t}")


def compared(by: dict[str, dict], shape: str) -> list[dict]:
    """Four sites against one, and ours against each peer as it comes and in our chunks."""
    rows = []
    for how in ("capture", "run"):
        one, four = (by[f"actscope {how} {sites} {shape}"] for sites in ("1 site", "4 sites"))
        name = f"actscope {how} 4 sites over 1 site"
        rows.append(row(name, one["ratio"] / four["ratio"], "times", ratio=one["ratio"] / four["ratio"], of="1 site"))
    mine = by[f"actscope capture 1 site {shape}"]["ratio"]
    for peer in PEERS:
        if other := by.get(f"{peer.name} {shape}"):
            times = mine / other["ratio"]
            rows.append(row(f"actscope capture over {peer.name}", times, "times", ratio=times, of=peer.name))
    return rows


def show(rows: Sequence[dict]) -> None:
    table = Table("", "tokens/s", f"x {FLOOR}", "lowest - highest", "MiB", box=None)
    by = {one["what"]: one for one in rows}
    for one in rows:
        if one["unit"] == "tokens per second":
            table.add_row(one["what"], f"{one['value']:,.0f}", f"{one['ratio']:.3f}", f"{one['lo']:.2f} - {one['hi']:.2f}",
                          f"{by[one['what'] + ' memory']['value']:.0f}")  # fmt: skip
    console.print(table)
    for one in rows:
        if one["unit"] == "times":
            console.print(f"{one['what']}: {one['value']:.3f}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.capture", description="Capture, beside blocks by hand and peers."
    )
    parser.add_argument("--quick", action="store_true", help="8 x 64 tokens, few rounds, no peers; writes nothing")
    given = parser.parse_args(arguments)
    rows = measure(OURS, 8, 64, 1, 3) if given.quick else measure((*OURS, *PEERS), 64, 256, 3, 3)
    show(rows)
    if not given.quick:
        machine = f"{platform.machine()}, 2 threads, torch {torch.__version__}"
        files.write_json(RESULT, {"machine": machine, "date": time.strftime("%Y-%m-%d"), "rows": rows})


if __name__ == "__main__":
    main()
