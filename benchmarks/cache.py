"""The latent cache, as a multiple of the encoder's own product, beside delphi's.

    python -m benchmarks.cache            # about ten minutes on 2 cores; writes benchmarks/results/cache.json
    python -m benchmarks.cache --quick    # few rounds, no delphi, less memory's course; writes nothing

16,384 latents, d=512, k=32, 16,384 planted rows in memory. A round is the whole streaming pass of `latent_cache` (codes, 20
top examples, 64 sampled ones with who fires beside them, firings, sums and histogram of every latent), and then the encoder's
product alone, float32, in the same chunks of 4,096 rows. delphi's LatentCache.run collects locations and activations, without
the top 20 that are sorted out of these later. Systems take turns, each in processes of its own; a ratio is the median over
rounds of t(pass) / t(product). What a pass does once at its end (neighbours, who fires together) is timed by itself.
Answer: codes and top examples against those of the plain product in float32 with torch.topk.
Memory: how far one whole call, with its commits to disk, lets a process rise above its imports, the dictionary included: of
rows, and of codes that are made up (skewed, 32 a row) so that ten million can be shown.
"Without a compiler" is the same with ACTSCOPE_KERNELS=off.
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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from benchmarks._planted import PORT, directions, planted
from benchmarks._rows import row
from benchmarks.peers import environments
from benchmarks.peers._child import memory
from rich.console import Console
from rich.table import Table
from torch import Tensor

from actscope.core import files
from actscope.core.batch import Batch
from actscope.core.codes import Codes
from actscope.core.site import Port
from actscope.dictionaries.topk import TopK
from actscope.ops import _native
from actscope.stores import latent_cache as module
from actscope.stores._parts.tally import Tally
from actscope.stores.latent_cache import latent_cache

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "cache.json"
LATENTS, WIDTH, K, ROWS, SEQUENCE = 16384, 512, 32, 16384, 256
FLOOR = "encoder product fp32"
console = Console(highlight=False, width=None if Console().is_terminal else 160)


@dataclass
class Rows:
    """A store of the same rows over and over, as many as asked for."""

    x: Tensor
    n: int
    content: str = "benchmark"
    subjects: dict[str, str] = field(default_factory=lambda: {"": "benchmark"})

    @property
    def ports(self) -> dict[Port, int]:
        return {PORT: self.x.shape[1]}

    def __len__(self) -> int:
        return self.n

    def batches(self, ports: Iterable[Port], size: int, *, seed: int | None = None, start: int = 0) -> Iterator[Batch]:
        for first in range(start * size, self.n, size):
            at = torch.arange(first, min(first + size, self.n))
            yield Batch({PORT: self.x[at % len(self.x)]}, torch.stack([at // SEQUENCE, at % SEQUENCE], 1))


class MadeUp(TopK):
    """32 codes a row without a product, some latents far more often than others."""

    def encode(self, x: Any, *, grads: Any = None) -> Codes:
        n, every = len(x[PORT]), self.n_latents // K
        chance = torch.rand(n, K, generator=self.draw)
        index = torch.arange(K) * every + (every * chance**3).long()
        value = torch.rand(n, K, generator=self.draw) + 1e-3
        return Codes(torch.arange(0, n * K + 1, K), index.view(-1), value.view(-1), self.n_latents)


def case(width: int = WIDTH) -> tuple[Tensor, TopK]:
    truth = directions(width)
    x = torch.cat([planted(4096, truth, 20.0, number) for number in range(ROWS // 4096)])
    made = TopK(reads={PORT: width}, n_latents=LATENTS, k=K).eval()
    made.begin(Batch({PORT: x[:4096]}, torch.zeros(4096, 2, dtype=torch.long)))
    return x, made


def rounds(count: int) -> dict[str, Any]:
    """{"pass", "product"}: seconds of each round; {"end"}: of what comes after, once."""
    x, made = case()
    store, weight, buffer = Rows(x, len(x)), made.encoder.detach(), torch.empty(module.ROWS, LATENTS)
    found: dict[str, Any] = {"pass": [], "product": []}
    for number in range(count + 1):
        tally = Tally(LATENTS, top=20, sample=64, most=0, seed=0)
        began = time.perf_counter()
        module._passed(made, store, tally, None, None, lambda *_: None)  # type: ignore[arg-type]
        between = time.perf_counter()
        for part in x.split(module.ROWS):
            torch.mm(part, weight.T, out=buffer[: len(part)])
        if number:  # the first makes the arrays
            found["product"].append(time.perf_counter() - between)
            found["pass"].append(between - began)
    began = time.perf_counter()
    tally.together(10)
    module._alike(made, 10)
    return {**found, "end": time.perf_counter() - began}


def answer() -> dict[str, float]:
    """Against plain float32: rows with other latents, values furthest apart (relative), top examples that differ."""
    x, made = case()
    other, apart, plain = 0, 0.0, []
    with torch.no_grad():
        for part in x.split(module.ROWS):
            ours = made.encode({PORT: part})
            value, index = torch.relu(made.preacts({PORT: part})).topk(K, dim=1)
            dense = torch.zeros(len(part), LATENTS).scatter_(1, index, value)
            both = ours.dense()
            other += int(((both > 0) != (dense > 0)).any(1).sum())
            here = (both > 0) & (dense > 0)
            apart = max(apart, float(((both - dense).abs() / dense)[here].max()))
            plain.append(dense)
    best = latent_cache(made, Rows(x, len(x))).top  # type: ignore[arg-type]
    value, rows = torch.cat([dense.T for dense in plain], 1).topk(20, dim=1)
    wanted = torch.where(value > 0, rows, -1)
    different = (best.row.sort(1).values != wanted.sort(1).values).sum()
    return {"rows": other, "apart": apart, "top": int(different), "of": int((wanted >= 0).sum())}


def rise(rows_: int, made_up: int) -> dict[str, float]:
    """{"mib", "seconds"} of one call that commits to disk."""
    torch.mm(torch.randn(512, 512), torch.randn(512, 512))
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS:")
    if made_up:
        made, x = MadeUp(reads={PORT: 8}, n_latents=LATENTS, k=K).eval(), torch.zeros(4096, 8)
        made.draw = torch.Generator().manual_seed(0)
    else:
        x, made = case()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        latent_cache(made, Rows(x, rows_), out=Path(folder) / "cache")  # type: ignore[arg-type]
    return {"mib": (memory("VmHWM:") - before) / 1024, "seconds": time.perf_counter() - began}


def save(folder: str) -> dict[str, float]:
    """The rows and the encoder for another system, and our top values beside them."""
    x, made = case()
    parts = {"weight": made.encoder, "bias": made.bias, "centre": made.subtracted, "scale": made.scale_read, "unit": made.unit}
    files.write_tensors(Path(folder) / "case.safetensors", {"x": x, **{name: part.detach() for name, part in parts.items()}})
    best = latent_cache(made, Rows(x, len(x))).top  # type: ignore[arg-type]
    files.write_tensors(Path(folder) / "ours.safetensors", {"top": best.value})
    return {}


CHILDREN = {"rounds": rounds, "answer": answer, "rise": rise, "save": save}


def child(what: str, *given: object, kernels: str = "") -> dict[str, Any]:
    """One measurement in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.cache", "--child", what, *map(str, given)]
    return _run(command, {**os.environ, "ACTSCOPE_KERNELS": kernels}, what)


def delphi(folder: Path, count: int) -> dict[str, Any]:
    python = str(environments.python_of("eai-delphi"))
    command = [python, "-m", "benchmarks.peers.child_delphi", str(folder), json.dumps({"rounds": count, "k": K})]
    return _run(command, {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}, "delphi")


def _run(command: list[str], env: dict[str, str], what: str) -> dict[str, Any]:
    env = {**env, "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{what}: {done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(turns: int, count: int, peer: bool) -> list[dict]:
    """Speed: the systems in turn, `turns` times `count` rounds each."""
    found: dict[str, dict[str, list]] = {}
    with tempfile.TemporaryDirectory() as folder:
        if peer:
            child("save", folder)
        for _ in range(turns):
            runs = [("actscope cache compiled", lambda: child("rounds", count))] if _native.available() else []
            runs.append(("actscope cache eager", lambda: child("rounds", count, kernels="off")))
            runs += [("delphi LatentCache.run", lambda: delphi(Path(folder), count))] if peer else []
            for name, run in runs:
                one, all_ = run(), found.setdefault(name, {"ratio": [], "seconds": [], "end": [], "mib": []})
                all_["ratio"] += [a / b for a, b in zip(one["pass"], one["product"], strict=True)]
                all_["seconds"] += one["pass"]
                for key in {"end", "mib"} & set(one):
                    all_[key].append(one[key])
                console.print(f"  {name}: {statistics.median(all_['ratio']):.3f} x {FLOOR}", style="dim")
        rows = []
        for name, all_ in found.items():
            middle, shape = statistics.median(all_["ratio"]), f"fp32 {LATENTS}"
            rows.append(row(f"{name} {shape}", ROWS / statistics.median(all_["seconds"]), "tokens/s", ratio=middle, of=FLOOR,
                            interval=(min(all_["ratio"]), max(all_["ratio"]))))  # fmt: skip
            for key, unit in (("end", "s, once"), ("mib", "MiB")):
                if all_[key]:
                    rows.append(row(f"{name} {shape} {key}", statistics.median(all_[key]), unit))
        if peer:
            theirs = statistics.median(found["delphi LatentCache.run"]["ratio"])
            for name in (name for name in found if name.startswith("actscope")):
                times = theirs / statistics.median(found[name]["ratio"])
                rows.append(row(f"{name} over delphi", times, "times", ratio=times, of="delphi LatentCache.run"))
            rows.append(row("top values, ours and delphi's, furthest apart", _apart(Path(folder)), "relative"))
    return rows


def _apart(folder: Path) -> float:
    ours, theirs = (files.read_tensors(folder / f"{name}.safetensors")["top"] for name in ("ours", "delphi"))
    return float(((ours - theirs).abs() / theirs.clamp(min=1e-5)).max())


def more(quick: bool) -> list[dict]:
    """The answer, and memory over growing numbers of rows."""
    rows = []
    for kernels, how in (("", "compiled"), ("off", "eager")):
        if kernels or _native.available():
            said = child("answer", kernels=kernels)
            rows.append(row(f"rows of {ROWS} with other latents than plain fp32, {how}", said["rows"], "rows"))
            rows.append(row(f"values furthest from plain fp32, {how}", said["apart"], "relative"))
            rows.append(row(f"top examples other than plain fp32's, {how}", said["top"], f"of {said['of']}"))
    for made_up, sizes in ((0, (2**15, 2**17, 2**19)), (1, (100_000, 1_000_000, 10_000_000))):
        for size in sizes[: 1 if quick else 3]:
            said = child("rise", size, made_up)
            name = f"memory of {size:,} {'tokens of codes' if made_up else 'rows'}"
            rows.append(row(name, said["mib"], f"MiB, in {said['seconds']:.0f} s"))
            console.print(f"  {name}: {said['mib']:.0f} MiB", style="dim")
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cache", description="The latent cache, measured.")
    parser.add_argument("--quick", action="store_true", help="few rounds, no delphi, less memory's course; writes nothing")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        what, *rest = given.child
        numbers = [int(one) if one.isdigit() else one for one in rest]
        sys.stdout.write("\n" + json.dumps(CHILDREN[what](*numbers)) + "\n")
        return
    rows = measure(1, 3, False) if given.quick else measure(3, 3, True)
    rows += more(given.quick)
    table = Table("what", "value", "unit", "ratio", "of", "least", "most", title="latent cache", box=None)
    for one in rows:
        numbers = ["" if one[name] is None else f"{one[name]:.3f}" for name in ("ratio", "lo", "hi")]
        table.add_row(one["what"], f"{one['value']:,.4g}", one["unit"], numbers[0], one["of"], *numbers[1:])
    console.print(table)
    if not given.quick:
        machine = f"{platform.machine()} {_native.instructions()}, 2 threads, torch {torch.__version__}"
        files.write_json(RESULT, {"machine": machine, "date": time.strftime("%Y-%m-%d"), "rows": rows})


if __name__ == "__main__":
    main()
