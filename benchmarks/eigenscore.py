"""The efficient EigenScore against the exact one: how well it follows it, and how much faster it is.

    python -m benchmarks.eigenscore

For k answers of d coordinates: the exact one takes all eigenvalues of the k x k covariance (as the paper does); "by Cholesky"
is the same number by a cheaper exact way, which the paper does not compare with. Correlations are over covariances that agree
more or less.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from benchmarks._rows import row
from rich.console import Console
from rich.table import Table

from actscope.core import files
from actscope.scores._parts.logdet import chebyshev, mean_log_eigenvalue, mean_log_eigenvalue_estimated

RESULT = Path(__file__).parent / "results" / "eigenscore.json"
A, SHOWN = 1e-3, 12
SIZES = ((500, 768), (1000, 1024), (2000, 2048))


def answers(seed: int, k: int, d: int) -> torch.Tensor:
    """k vectors that agree more or less, in few or many directions."""
    draw = torch.Generator().manual_seed(seed)
    agree, fall = torch.rand(2, generator=draw).tolist()
    directions = torch.arange(1, d + 1) ** -(0.2 + fall)
    return 2 * torch.randn(1, d, generator=draw) + (0.2 + 2 * agree) * torch.randn(k, d, generator=draw) * directions


def cholesky(z: torch.Tensor, a: float) -> float:
    """The mean log eigenvalue from the determinant."""
    c = z.double() - z.double().mean(1, keepdim=True)
    factor = torch.linalg.cholesky(c @ c.T + a * torch.eye(len(c), dtype=torch.float64))
    return 2 * float(factor.diagonal().log().mean())


def seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def measure(sizes: Sequence[tuple[int, int]], rounds: int) -> list[dict]:
    rows = []
    for k, d in sizes:
        shown = [answers(seed, k, d) for seed in range(SHOWN)]
        exact = [mean_log_eigenvalue(z, A) for z in shown]
        for name, way in (("efficient", mean_log_eigenvalue_estimated), ("chebyshev", chebyshev)):
            follows = torch.corrcoef(torch.tensor([exact, [way(z, A) for z in shown]]))[0, 1]
            rows.append(row(f"{name} {k}x{d} correlation with exact", float(follows), "r"))
        for name, way in (("efficient", mean_log_eigenvalue_estimated), ("exact by Cholesky", cholesky)):
            pairs = [  # what else the machine does falls on both
                (seconds(lambda: mean_log_eigenvalue(shown[0], A)), seconds(lambda way=way: way(shown[0], A)))  # noqa: B023
                for _ in range(rounds)
            ]
            ratios = sorted(slow / fast for slow, fast in pairs)
            spread = {"ratio": statistics.median(ratios), "of": "speed of exact", "interval": (ratios[0], ratios[-1])}
            rows.append(row(f"{name} {k}x{d}", statistics.median(fast for _, fast in pairs), "s", **spread))
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
