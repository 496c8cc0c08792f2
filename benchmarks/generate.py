"""Greedy generation on pocket, as a multiple of transformers' own `generate` on the same module.

    python -m benchmarks.generate            # two minutes on 2 cores; writes benchmarks/results/generate.json
    python -m benchmarks.generate --quick    # fewer rounds; writes nothing

Float32, a cache of keys and values on both sides, 64 tokens a row, no end token. Prompts of 16 tokens, or of 4 to 16 padded on
the left ("padded"). Both are timed in turn in one process, each first in every other round; a ratio is the median over the
rounds of t(transformers) / t(actscope). Both must give the same tokens. The last rows read a site, and write at one, at every
token.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from benchmarks._rows import row
from rich.console import Console
from rich.table import Table

import actscope as act
from actscope.core import files
from actscope.core.inputs import Inputs
from actscope.core.site import Site
from actscope.ops import _native

RESULT = Path(__file__).parent / "results" / "generate.json"
PROMPT, TOKENS = 16, 64
SITE = Site("resid_post", 2)
console = Console(highlight=False, width=None if Console().is_terminal else 160)


def prompts(subject: Any, batch: int, padded: bool) -> Inputs:
    """Random ids; padded: the first row is whole and the others begin anywhere up to the last four tokens."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(1, subject.sites[Site("logits")].shape[-1], (batch, PROMPT), generator=draw)
    first = torch.randint(0, PROMPT - 3, (batch, 1), generator=draw)
    first[0] = 0
    return Inputs(ids=ids, mask=torch.arange(PROMPT) >= first if padded else torch.ones_like(ids, dtype=torch.bool))


def paired(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int) -> dict[str, Any]:
    """{"ratio", "lo", "hi", "seconds", "theirs"}: the median of the rounds, their extremes, and median times."""
    took: dict[str, list[float]] = {"ours": [], "theirs": []}
    for number in range(rounds + 2):
        sides = [("ours", ours), ("theirs", theirs)]
        for name, call in sides if number % 2 else reversed(sides):
            began = time.perf_counter()
            call()
            took[name].append(time.perf_counter() - began)
    mine, other = took["ours"][2:], took["theirs"][2:]  # the first two warm up
    ratios = [b / a for a, b in zip(mine, other, strict=True)]
    medians = {"seconds": statistics.median(mine), "theirs": statistics.median(other)}
    return {"ratio": statistics.median(ratios), "lo": min(ratios), "hi": max(ratios), **medians}


def measure(rounds: int) -> list[dict]:
    subject = act.load("pocket")
    rows = []
    width = int(subject.sites[SITE].shape[-1])  # type: ignore[arg-type]
    push = act.Add(SITE, torch.zeros(width))
    cases: list[tuple[str, int, bool, dict[str, Any]]] = [
        ("batch 1", 1, False, {}),
        ("batch 16", 16, False, {}),
        ("batch 16 padded", 16, True, {}),
        ("batch 16, one site read", 16, False, {"read": [SITE]}),
        ("batch 16, one site written", 16, False, {"write": [push]}),
    ]
    for name, batch, padded, more in cases:
        given = prompts(subject, batch, padded)

        def theirs(given: Inputs = given) -> torch.Tensor:
            made = subject.model.generate(
                given.ids, attention_mask=given.mask, max_new_tokens=TOKENS, do_sample=False, pad_token_id=0, use_cache=True
            )
            return made[:, PROMPT:]

        def ours(given: Inputs = given, more: dict[str, Any] = more) -> torch.Tensor:
            return torch.stack(act.generate(subject, given, tokens=TOKENS, ends=False, **more).ids)

        if not torch.equal(ours(), theirs()):
            raise SystemExit(f"{name}: the tokens differ; nothing is measured.")
        found = paired(ours, theirs, rounds)
        spread = {"ratio": found["ratio"], "of": "transformers generate", "interval": (found["lo"], found["hi"])}
        rows.append(row(f"actscope generate {name}", batch * TOKENS / found["seconds"], "tokens/s", **spread))
        rows.append(row(f"transformers generate {name}", batch * TOKENS / found["theirs"], "tokens/s"))
        console.print(f"  {name}: {found['ratio']:.3f}", style="dim")
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generate", description="Greedy generation, measured.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds; writes nothing")
    given = parser.parse_args(arguments)
    rows = measure(3 if given.quick else 15)
    table = Table("what", "value", "unit", "ratio", "of", "least", "most", title="greedy generation on pocket", box=None)
    for one in rows:
        numbers = ["" if one[name] is None else f"{one[name]:.3f}" for name in ("ratio", "lo", "hi")]
        table.add_row(one["what"], f"{one['value']:,.0f}", one["unit"], numbers[0], one["of"], *numbers[1:])
    console.print(table)
    if not given.quick:
        machine = f"{platform.machine()} {_native.instructions()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
        files.write_json(RESULT, {"machine": machine, "date": time.strftime("%Y-%m-%d"), "rows": rows})


if __name__ == "__main__":
    main()
