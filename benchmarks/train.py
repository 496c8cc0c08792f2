"""One training step of a topk dictionary, as a multiple of the encoder's own product.

    python -m benchmarks.train            # a few minutes on 2 cores; writes benchmarks/results/train.json
    python -m benchmarks.train --quick    # fewer rounds; writes nothing
    python -m benchmarks.train --device cuda  # the same on a GPU, timed by its own events; writes train-cuda.json

d=512, k=32, batches of 4,096, revival and clipping on. Step and product are timed in turn in one process; a ratio is the
median over the rounds of t(step) / t(product). The product is the whole batch's in float32, into an array that is there.
Memory: the highest the process grew during steps, above parameters and optimizer state, in a process of its own each; on a GPU
what torch has allocated there.
Equality: from one start, the fast step and autograd's see the same 400 batches of planted sparse data; FVU of held-out rows.
"Without a compiler" is the same step with ACTSCOPE_KERNELS=off; on a GPU that leaves out the Triton kernels. The product in
float32 is torch's own, in full precision: TF32 is off unless the user turns it on. No GPU has been measured yet.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from benchmarks._planted import batches
from benchmarks._rows import row
from rich.console import Console
from rich.table import Table

from actscope.core import files
from actscope.core.batch import Batch
from actscope.core.site import Port
from actscope.dictionaries.topk import TopK
from actscope.ops import _native, _triton
from actscope.training.descent import Descent, Handwritten
from actscope.training.plan import Plan
from actscope.training.schedule import rate

RESULT = Path(__file__).parent / "results" / "train.json"
PORT = Port.parse("layers.0.mlp_in")
ROWS, WIDTH, K = 4096, 512, 32
console = Console(highlight=False, width=None if Console().is_terminal else 160)


def random(device: str) -> Batch:
    """One batch of normal numbers."""
    x = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(0))
    return Batch({PORT: x}, torch.zeros(ROWS, 2, dtype=torch.long)).to(device)


def ready(latents: int, matmul: str, batch: Batch) -> Handwritten:
    """A step about to be taken, where the batch is."""
    device = batch.acts[PORT].device
    made = TopK(reads={PORT: WIDTH}, n_latents=latents, k=K).to(device).train()
    made.begin(batch)
    fused = made.fused(Plan(matmul=matmul, device=str(device)))
    assert fused is not None
    return Handwritten(fused)


def ratio(device: str, latents: int, matmul: str, rounds: int) -> dict[str, float]:
    """{"ratio", "lo", "hi", "seconds"}: the median of the rounds, their extremes, and the step's median time."""
    batch = random(device)
    x, weight = batch.acts[PORT], torch.randn(latents, WIDTH, generator=torch.Generator().manual_seed(1)).to(device)
    step, product = ready(latents, matmul, batch), torch.empty(ROWS, latents, device=device)
    seconds, ratios = [], []
    for number in range(rounds + 2):
        stepped = taken(lambda: step.step(batch, 1e-3, 0.0), device)
        multiplied = taken(lambda: torch.mm(x, weight.T, out=product), device)
        if number >= 2:  # the first two make the arrays, and compile
            seconds.append(stepped)
            ratios.append(stepped / multiplied)
    return {"ratio": statistics.median(ratios), "lo": min(ratios), "hi": max(ratios), "seconds": statistics.median(seconds)}


def taken(work: Callable[[], object], device: str) -> float:
    """Seconds; on a GPU between two events of its own, with nothing before them in its queue."""
    if device == "cpu":
        began = time.perf_counter()
        work()
        return time.perf_counter() - began
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    began.record()
    work()
    ended.record()
    torch.cuda.synchronize()
    return began.elapsed_time(ended) / 1000


def memory(device: str, latents: int, matmul: str) -> dict[str, float]:
    """{"mib"}: how far the process's peak rises above parameters and optimizer state while it takes steps."""
    batch = random(device)
    warm = ready(256, matmul, batch)  # threads, libraries and their scratch are there before the count begins
    warm.step(batch, 1e-3, 0.0)
    before = held(device)
    step = ready(latents, matmul, batch)
    for _ in range(3):
        step.step(batch, 1e-3, 0.0)
    state = sum(value.numel() * value.element_size() for value in step.fused.wiring.parameters()) * 3  # type: ignore[attr-defined]
    return {"mib": (held(device, peak=True) - before - state) / 2**20}


def held(device: str, peak: bool = False) -> int:
    """Bytes of memory this process holds, or held at most."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()
    name = "VmHWM:" if peak else "VmRSS:"
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def equality(device: str, latents: int, matmul: str) -> dict[str, float]:
    """{"fast", "dense"}: FVU on held-out rows after the same batches from the same start."""
    every = [batch.to(device) for batch in batches(width=256, rows=2048, steps=400, seed=0)]
    unseen = torch.cat([batch.acts[PORT] for batch in batches(width=256, rows=2048, steps=5, seed=1)]).to(device)
    found = {}
    for name in ("fast", "dense"):
        made = TopK(reads={PORT: 256}, n_latents=latents, k=K).to(device).train()
        made.begin(every[0])
        plan = Plan(lr=made.rate, matmul=matmul if name == "fast" else "float32")
        fused = made.fused(plan)
        assert fused is not None
        descent = Handwritten(fused) if name == "fast" else Descent(made, plan.clip)
        for number, batch in enumerate(every):
            descent.step(batch, rate(plan, made.rate, number, len(every)), number / len(every))
            descent.after_step((number + 1) / len(every))
        with torch.no_grad():
            error = made.eval().decode(made.encode(unseen))[PORT] - unseen
        found[name] = float(error.square().sum() / (unseen - unseen.mean(0)).square().sum())
    return found


def child(what: str, device: str, latents: int, matmul: str, kernels: str, *more: str) -> dict[str, float]:
    """One measurement in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.train", "--child", what, device, str(latents), matmul, *more]
    env = {**os.environ, "ACTSCOPE_KERNELS": kernels}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def measure(device: str, rounds: int) -> list[dict]:
    rows, own = [], _native if device == "cpu" else _triton
    for latents in (16384, 4096):
        for kernels, how in (("", "compiled" if device == "cpu" else "triton"), ("off", "eager")):
            if not kernels and own.reason():
                console.print(f"No compiled kernels: {own.reason()}")
                continue
            for matmul, short in (("float32", "fp32"), ("bfloat16", "bf16")):
                name = f"actscope step {short} {latents} {how}"
                took = child("ratio", device, latents, matmul, kernels, str(rounds))
                spread = {"ratio": took["ratio"], "of": "encoder product fp32", "interval": (took["lo"], took["hi"])}
                rows.append(row(name, ROWS / took["seconds"], "tokens/s", **spread))
                rows.append(row(f"{name} memory", child("memory", device, latents, matmul, kernels)["mib"], "MiB above state"))
                console.print(f"  {name}: {took['ratio']:.3f}", style="dim")
    for matmul, short in (("float32", "fp32"), ("bfloat16", "bf16")):
        found = child("equality", device, 2048, matmul, "")
        rows.append(row(f"actscope fvu {short} fast minus dense", found["fast"] - found["dense"], f"of {found['dense']:.4f}"))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description="One training step, measured.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds; writes nothing")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the step is taken")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        what, device, latents, matmul, *more = given.child
        found = {"ratio": ratio, "memory": memory, "equality": equality}[what](device, int(latents), matmul, *map(int, more))
        sys.stdout.write(json.dumps(found) + "\n")
        return
    rows = measure(given.device, 3 if given.quick else 15)
    table = Table("what", "value", "unit", "ratio", "of", "least", "most", title="training step", box=None)
    for one in rows:
        numbers = ["" if one[name] is None else f"{one[name]:.3f}" for name in ("ratio", "lo", "hi")]
        table.add_row(one["what"], f"{one['value']:,.4g}", one["unit"], numbers[0], one["of"], *numbers[1:])
    console.print(table)
    if not given.quick:
        machine = f"{platform.machine()} {_native.instructions()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
        if given.device == "cuda":
            machine = f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
        result = RESULT if given.device == "cpu" else RESULT.with_stem("train-cuda")
        files.write_json(result, {"machine": machine, "date": time.strftime("%Y-%m-%d"), "rows": rows})


if __name__ == "__main__":
    main()
