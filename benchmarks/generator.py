"""Which methods find the directions that sparse data was made of.

    python -m benchmarks.generator            # more than an hour on 2 cores; writes benchmarks/results/generator.json
    python -m benchmarks.generator --widths 64 128    # some of 64, 128, 256, 512; the others' rows of the file stay
    python -m benchmarks.generator --quick    # width 64 alone, one seed; writes nothing

Rows are sums of few of 4 d unit directions, d / 12 and at most 20 on average (benchmarks/_planted.py).
Every dictionary has 8 d latents where it takes a number; k is what is active on average, rounded up. All members of a width are
trained in one sweep, at the method's own rate, on passes over 300,000 rows; snmf, whose cost grows with the square of the
latents, on the first 10,000. MMCS: the mean over true directions of the largest |cosine| of any atom;
recall: the share of true directions with one above 0.9; FVU: on rows kept aside. Intervals: t over seeds.
"""

import argparse
import inspect
import math
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from benchmarks._planted import PORT, directions, planted
from benchmarks._rows import row
from rich.console import Console
from rich.table import Table
from torch import Tensor

from actscope.core import files, methods
from actscope.core.dictionary import Dictionary
from actscope.reproductions._parts.planted import store_of
from actscope.scores._parts.seeds import over_seeds
from actscope.training.fit import fit
from actscope.training.plan import Plan
from actscope.training.sweep import sweep

RESULT = Path(__file__).parent / "results" / "generator.json"
FAMILY = ("topk", "batch_topk", "matryoshka")
OTHERS = ("jumprelu", "gated", "relu_l1", "top_afa", "ica", "kmeans", "snmf", "discrete", "pca", "random")
ROWS = 300_000
FEW = {"snmf": 10_000}  # rows of methods that cannot have them all
# width -> methods and passes over the rows: every method where that is cheap, the TopK family until it has converged
WORK = {256: (FAMILY, 6), 512: (FAMILY, 6), 64: ((*FAMILY, *OTHERS), 2), 128: (FAMILY, 4)}
console = Console(highlight=False, width=None if Console().is_terminal else 140)


def active(width: int) -> float:
    return min(20.0, width / 12)


def make(name: str, width: int, seed: int) -> Dictionary:
    kind: Any = methods.find("dictionaries", name)
    takes = inspect.signature(kind).parameters
    given: dict[str, object] = {"seed": seed} if "seed" in takes else {}
    if "k" in takes:
        given["k"] = math.ceil(active(width))
    if name != "pca":
        given["n_latents"] = width if name == "ica" else 8 * width
    return kind(reads={PORT: width}, **given)


@torch.no_grad()
def judge(one: Dictionary, truth: Tensor, held: Tensor) -> dict[str, float]:
    atoms = torch.nn.functional.normalize(one.atoms[PORT].float(), dim=1)
    best = (truth @ atoms.T).abs().max(1).values
    codes = one.encode(held)
    error = one.decode(codes, {PORT: held})[PORT] - held
    return {
        "mmcs": float(best.mean()),
        "recall": float((best > 0.9).float().mean()),
        "fvu": float(error.square().sum() / (held - held.mean(0)).square().sum()),
        "l0": len(codes.index) / len(held),
    }


def measure(width: int, names: Sequence[str], seeds: int, passes: int) -> list[dict]:
    truth = directions(width)
    x, held = planted(ROWS, truth, active(width), 1), planted(20_000, truth, active(width), 2)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for seed in range(seeds):
        members = {name: make(name, width, seed) for name in names}
        plan = Plan(rows=passes * ROWS, batch=2048, seed=seed)
        made = sweep({name: members[name] for name in names if name not in FEW}, store_of({PORT: x}, name="planted"), plan)
        seconds = dict(made.seconds)
        for name in set(names) & set(FEW):
            began = time.monotonic()
            fit(members[name], store_of({PORT: x[: FEW[name]]}, name="planted"), Plan(batch=2048, seed=seed))
            seconds[name] = time.monotonic() - began
        for name in names:
            found[name].append(judge(members[name], truth, held) | {"seconds": seconds[name]})
            last = found[name][-1]
            console.print(f"  d={width} seed {seed} {name}: " + ", ".join(f"{k} {v:.3f}" for k, v in last.items()), style="dim")
    rows = []
    for name, each in found.items():
        for key, unit in (("mmcs", "mean largest cosine"), ("recall", "share above 0.9"), ("fvu", "share of variance"),
                          ("l0", "latents a row"), ("seconds", "seconds")):  # fmt: skip
            mean, interval = over_seeds([one[key] for one in each])
            rows.append(row(f"actscope {name} d={width} {key}", mean, unit, interval=interval))
    return rows


def show(rows: Sequence[dict], width: int, names: Sequence[str]) -> None:
    by = {one["what"]: one for one in rows}
    table = Table(
        "method", "MMCS", "recall", "FVU", "active", "seconds", title=f"d={width}, {4 * width} true directions", box=None
    )
    for name in sorted(names, key=lambda name: -by[f"actscope {name} d={width} mmcs"]["value"]):
        cells = []
        for key in ("mmcs", "recall", "fvu", "l0", "seconds"):
            one = by[f"actscope {name} d={width} {key}"]
            half = "" if one["lo"] is None else f" ±{(one['hi'] - one['lo']) / 2:.3f}"
            cells.append(f"{one['value']:.3f}{half}" if key in ("mmcs", "recall", "fvu") else f"{one['value']:.1f}")
        table.add_row(name, *cells)
    console.print(table)


def save(width: int, rows: Sequence[dict], seconds: float) -> None:
    """Put a width's rows into the file in place of those it had; a run that is killed keeps the widths it finished."""
    kept = files.read_json(RESULT)["rows"] if RESULT.exists() else []
    mark = f"d={width} "
    made = [*rows, row(f"the benchmark at d={width} whole", seconds, "seconds")]
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    every = [one for one in kept if mark not in one["what"]] + made
    files.write_json(RESULT, {"machine": machine, "date": time.strftime("%Y-%m-%d"), "rows": every})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.generator", description="Known sparse directions, found or not."
    )
    parser.add_argument("--quick", action="store_true", help="width 64 alone, one seed; writes nothing")
    parser.add_argument("--widths", type=int, nargs="+", choices=list(WORK), default=list(WORK), help="these alone")
    given = parser.parse_args(arguments)
    for width in (64,) if given.quick else given.widths:
        (names, passes), began = WORK[width], time.monotonic()
        rows = measure(width, names, 1 if given.quick else 3, passes)
        show(rows, width, names)
        if not given.quick:
            save(width, rows, time.monotonic() - began)


if __name__ == "__main__":
    main()
