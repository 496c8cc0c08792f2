"""`actscope capture --dry-run` against the capture it foretells: rows, bytes, time and memory.

    python -m benchmarks.dry_run            # six minutes, median of five; writes benchmarks/results/dry_run.json
    python -m benchmarks.dry_run --runs 1   # fewer than three write nothing

Every run is a process of its own, as a user starts it; turn by turn one that foretells and one that captures. A ratio is
captured / foretold. Memory is the most the process held. Rows within 1% (those set apart are foretold as rows), bytes within
10%, time and memory within 25%.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from benchmarks._rows import row
from rich.console import Console
from rich.table import Table

from actscope.core import files

RESULT = Path(__file__).parent / "results" / "dry_run.json"
BARS = {"rows": 0.01, "bytes": 0.10, "seconds": 0.25, "memory": 0.25}
UNITS = {"rows": "rows", "bytes": "bytes", "seconds": "s", "memory": "bytes"}
CONFIGURATIONS = {
    "pocket mlp_out fp32": ("pocket", "standard-library", "--site", "layers.1.mlp_out", "--tokens", "300000"),
    "pocket four sites fp32": (
        "pocket", "grammar", "--site", "layers.0.mlp_out", "--site", "layers.1.mlp_out", "--site", "layers.2.mlp_out",
        "--site", "layers.3.mlp_out", "--tokens", "200000",
    ),
    "pocket resid_post int8": (
        "pocket", "grammar", "--site", "layers.3.resid_post", "--tokens", "300000", "--store-dtype", "int8",
    ),
    "pocket-mini packed": ("pocket-mini", "standard-library", "--site", "layers.0.mlp_out", "--tokens", "400000", "--packed"),
    "pocket with gradients": ("pocket", "standard-library", "--site", "layers.2.mlp_out", "--tokens", "100000", "--grads"),
}  # fmt: skip
console = Console(highlight=False, width=None if Console().is_terminal else 140)


def told(command: Sequence[str]) -> tuple[dict, int]:
    """(what `actscope capture` says, the most bytes its process held)."""
    child = subprocess.Popen([sys.executable, "-m", "actscope", "capture", *command, "--json"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    said = json.loads(child.stdout.read())
    _, status, used = os.wait4(child.pid, 0)
    assert status == 0, command
    return said, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def compared(name: str, command: Sequence[str], runs: int, folder: Path) -> list[dict]:
    pairs: dict[str, list[tuple[float, float]]] = {what: [] for what in BARS}
    for run in range(runs):
        foretold, _ = told([*command, "--dry-run"])
        real, held = told([*command, "--out", str(folder / str(run))])
        for what in BARS:
            pairs[what].append((held if what == "memory" else real[what], foretold[what]))
    rows = []
    for what, found in pairs.items():
        ratios = sorted(value / foreseen for value, foreseen in found)
        value, ratio = statistics.median(value for value, _ in found), statistics.median(ratios)
        rows.append(row(f"{what}: {name}", value, UNITS[what], ratio=ratio, of="foretold", interval=(ratios[0], ratios[-1])))
    return rows


def show(rows: list[dict]) -> None:
    table = Table("", "captured", "of foretold", "from", "to", "holds", box=None)
    for one in rows:
        holds = max(one["ratio"], 1 / one["ratio"]) - 1 <= BARS[one["what"].partition(":")[0]]
        table.add_row(
            one["what"], f"{one['value']:,.1f} {one['unit']}", f"{one['ratio']:.3f}", f"{one['lo']:.3f}", f"{one['hi']:.3f}",
            "yes" if holds else "no",
        )  # fmt: skip
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="of each; fewer than three write nothing")
    given = parser.parse_args(arguments)
    rows: list[dict] = []
    Path("runs").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir="runs") as place:
        for number, (name, command) in enumerate(CONFIGURATIONS.items()):
            rows += compared(name, command, given.runs, Path(place) / str(number))
    show(rows)
    if given.runs >= 3:
        machine = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads"
        files.write_json(RESULT, {"machine": machine, "date": time.strftime("%Y-%m-%d"), "rows": rows})


if __name__ == "__main__":
    main()
