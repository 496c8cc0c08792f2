"""The efficient EigenScore against the exact one: how well it follows it, and how much faster it is.

    python -m benchmarks.eigenscore

For k answers of d coordinates: the paper's code takes all eigenvalues and eigenvectors of the k x k covariance; beside it stand
the eigenvalues alone. The determinant by Cholesky is the same number, exactly, and cheaper; it is what `eigenscore` computes
where it is not asked to be efficient. Correlations are over covariances that agree more or less.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from benchmarks._rows import row
from rich.console import Console
from rich.table import Table

from actscope.core import files
from actscope.reproductions._parts.agreeing import agreeing, by_eigenvalues, times_faster
from actscope.scores._parts.logdet import chebyshev, mean_log_eigenvalue, mean_log_eigenvalue_estimated

RESULT = Path(__file__).parent / "results" / "eigenscore.json"
A, SHOWN = 1e-3, 12
SIZES = ((500, 768), (1000, 1024), (2000, 2048))
SLOW = {
    "eigenvalues and eigenvectors": lambda z: by_eigenvalues(z, A),
    "eigenvalues": lambda z: by_eigenvalues(z, A, vectors=False),
}
FAST = {"efficient": mean_log_eigenvalue_estimated, "determinant": mean_log_eigenvalue}


def measure(sizes: Sequence[tuple[int, int]], rounds: int) -> list[dict]:
    rows = []
    for k, d in sizes:
        shown = [agreeing(seed, k, d) for seed in range(SHOWN)]
        exact = [mean_log_eigenvalue(z, A) for z in shown]
        for name, way in (("efficient", mean_log_eigenvalue_estimated), ("chebyshev", chebyshev)):
            follows = torch.corrcoef(torch.tensor([exact, [way(z, A) for z in shown]]))[0, 1]
            rows.append(row(f"{name} {k}x{d} correlation with exact", float(follows), "r"))
        for name, way in FAST.items():
            for of, slow in SLOW.items():
                z = shown[0]
                ratios = times_faster(lambda slow=slow, z=z: slow(z), lambda way=way, z=z: way(z, A), rounds)
                middle = statistics.median(ratios)
                rows.append(row(f"{name} {k}x{d}", middle, "x", ratio=middle, of=of, interval=(ratios[0], ratios[-1])))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.eigenscore", description="EigenScore, exact and efficient.")
    parser.add_argument("--quick", action="store_true", help="one small size and 3 rounds; writes nothing")
    given = parser.parse_args(arguments)
    rows = measure(SIZES[:1] if given.quick else SIZES, 3 if given.quick else 9)
    table = Table("what", "value", "unit", "ratio", "of", "least", "most", title="EigenScore, exact and efficient", box=None)
    for one in rows:
        numbers = ["" if one[name] is None else f"{one[name]:.2f}" for name in ("ratio", "lo", "hi")]
        table.add_row(one["what"], f"{one['value']:.4f}", one["unit"], numbers[0], one["of"], *numbers[1:])
    Console().print(table)
    if not given.quick:
        machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
        files.write_json(RESULT, {"machine": machine, "date": time.strftime("%Y-%m-%d"), "rows": rows})


if __name__ == "__main__":
    main()
