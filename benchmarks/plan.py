"""`actscope plan` against what it planned: time and bytes of five captures and fits on this machine.

    python -m benchmarks.plan            # some minutes; writes benchmarks/results/plan.json
    python -m benchmarks.plan --quick    # one run of each where the full one takes the median of five; writes nothing

Each configuration is planned once, then captured and fitted for real; a ratio is measured / planned. What is timed is the call
of `capture` and of `fit` in a process that has imported everything, with the model loaded and the text read. All weights are
random: what they are is of no matter to the clock. A time within 25% and bytes within 10% hold.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from benchmarks._rows import row
from rich.console import Console
from rich.table import Table

from actscope.core import files, methods
from actscope.core.site import Port, Site
from actscope.corpora.standard_library import standard_library
from actscope.stores.capture import capture
from actscope.subjects.blank import blank
from actscope.training._rates import Relabelled
from actscope.training.costs import Asked, costs
from actscope.training.fit import fit
from actscope.training.plan import Plan

RESULT = Path(__file__).parent / "results" / "plan.json"
PYTHIA_70M = {
    "model_type": "gpt_neox", "architectures": ["GPTNeoXForCausalLM"], "hidden_size": 512, "intermediate_size": 2048,
    "num_attention_heads": 8, "num_hidden_layers": 6, "vocab_size": 50304, "max_position_embeddings": 2048,
}  # fmt: skip
console = Console(highlight=False, width=None if Console().is_terminal else 160)


def configurations(pythia: str) -> dict[str, Asked]:
    """The fifth is of a model that pocket's tokenizer reads for, with sequences of 256."""
    return {
        "pocket mlp_out fp32": Asked("pocket", "layers.1.mlp_out", tokens=300_000, latents=2048, k=32),
        "pocket resid_post packed fp32": Asked(
            "pocket", "layers.3.resid_post", tokens=200_000, latents=4096, k=32, packed=True
        ),
        "pocket mlp_out bf16": Asked("pocket", "layers.2.mlp_out", tokens=150_000, latents=1024, k=16, dtype="bfloat16"),
        "pocket-mini with gradients": Asked("pocket-mini", "layers.0.mlp_out", tokens=200_000, latents=1024, k=16, grads=True),
        "pythia-70m mlp_out fp32": Asked(pythia, "layers.3.mlp_out", tokens=60_000, latents=4096, k=32, context=256),
    }


def measured(asked: Asked, runs: int, folder: Path) -> dict[str, list[float]]:
    """Seconds of every capture and fit, and the bytes they left."""
    subject = blank(asked.model, dtype=asked.dtype)
    read = subject if subject.tokenizer else Relabelled(subject, blank("pocket", layers=1), subject.model.config.vocab_size)
    corpus, site = standard_library(), Site.parse(asked.site)
    assert corpus.fingerprint and subject.fingerprint
    found: dict[str, list[float]] = {"capture": [], "capture bytes": [], "fit": [], "fit bytes": []}
    for run in range(runs):
        out, made = folder / f"acts-{run}", folder / f"sae-{run}"
        given = {"context": asked.context, "packed": asked.packed, "grads": asked.grads}
        began = time.perf_counter()
        store = capture(read, corpus, [site], tokens=asked.tokens, out=out, **given)
        between = time.perf_counter()
        sae = methods.find("dictionaries", asked.method)(
            reads={Port(site): store.ports[Port(site)]}, n_latents=asked.latents, k=asked.k
        )
        plan = Plan(rows=asked.tokens, batch=asked.batch, matmul=asked.matmul)
        started = time.perf_counter()
        fit(sae, store, plan, out=made)
        ended = time.perf_counter()
        found["capture"].append(between - began)
        found["fit"].append(ended - started)
        found["capture bytes"].append(sum(path.stat().st_size for path in out.glob("unit-*")))
        found["fit bytes"].append(sum(path.stat().st_size for path in made.glob("*.safetensors")))
    return found


def compared(name: str, asked: Asked, runs: int, folder: Path) -> list[dict]:
    planned = costs(asked, standard_library(), near=folder)
    real = measured(asked, runs, folder)
    rows = []
    for what, cost in (("capture", planned.capture), ("fit", planned.fit)):
        for key, foreseen, unit in ((what, cost.seconds, "s"), (f"{what} bytes", cost.bytes, "bytes")):
            value, spread = statistics.median(real[key]), (min(real[key]) / foreseen, max(real[key]) / foreseen)
            rows.append(row(f"{key}: {name}", value, unit, ratio=value / foreseen, of="planned", interval=spread))
    return rows


def show(rows: list[dict]) -> None:
    table = Table("", "measured", "of planned", "from", "to", "holds", box=None)
    for one in rows:
        off = max(one["ratio"], 1 / one["ratio"]) - 1
        holds = off <= (0.25 if one["unit"] == "s" else 0.10)
        table.add_row(
            one["what"], f"{one['value']:,.2f} {one['unit']}", f"{one['ratio']:.3f}", f"{one['lo']:.3f}", f"{one['hi']:.3f}",
            "yes" if holds else "no",
        )  # fmt: skip
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one run of each; writes nothing")
    parser.add_argument("--only", default="", help="only the configurations with this in their name; writes nothing")
    given = parser.parse_args(arguments)
    rows: list[dict] = []
    Path("runs").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir="runs") as place:
        pythia = Path(place) / "pythia-70m"
        files.write_json(pythia / "config.json", PYTHIA_70M)
        for number, (name, asked) in enumerate(configurations(str(pythia)).items()):
            if given.only in name:
                rows += compared(name, asked, 1 if given.quick else 5, Path(place) / str(number))
    show(rows)
    if not given.quick and not given.only:
        machine = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads"
        files.write_json(RESULT, {"machine": machine, "date": time.strftime("%Y-%m-%d"), "rows": json.loads(json.dumps(rows))})


if __name__ == "__main__":
    main()
