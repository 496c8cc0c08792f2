"""actscope capture"""

import inspect
from functools import cache
from pathlib import Path

__all__ = ["capture"]


def capture(
    model: str,
    corpus: str,
    *,
    site: list[str],
    out: Path | None = None,
    column: str = "text",
    split: str | None = None,
    tokens: int | None = None,
    context: int | None = None,
    packed: bool = False,
    special: bool = False,
    grads: bool = False,
    start: int = 0,
    threads: int | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    store_dtype: str | None = None,
    sinks: bool = False,
    dry_run: bool = False,
    sbatch: str | None = None,
    json: bool = False,
) -> None:
    """Read a text through a model and keep what stands at some sites, one row a token.

    Killed or stopped, the same command goes on where it was and ends in the same bytes, in any number of processes:
    `torchrun --nproc-per-node 4 -m actscope capture ...`.

    Args:
        model: pocket, a transformers folder or a hub id.
        corpus: a file (.txt .md .py .jsonl .jsonl.gz .parquet .png .jpg .webp .bmp), a folder of them, a dataset of the hub
            (hf:org/name:config@revision), standard-library or grammar. Dialogues are written by the model's own chat template.
        site: where to read, such as layers.2.resid_post or "layers.*.mlp_out"; may be given several times.
        out: the folder to write, new or begun by the same command.
        column: the field to read of JSON lines, Parquet and datasets: a text, or a list of messages.
        split: of a dataset; train when left out.
        tokens: stop after about so many rows.
        context: tokens a sequence; longer documents are cut. The model's own when left out.
        packed: run several short documents in one row; attention never crosses between them.
        special: keep the rows of special tokens too.
        grads: keep the gradient of the model's loss beside every row too, for gradient_sae.
        start: skip so many documents.
        threads: of torch; those of this machine when left out.
        device: "cpu", "cuda"...; "auto" spreads one model over all accelerators.
        dtype: of the model, and so of the rows unless store_dtype says otherwise.
        store_dtype: how the rows are kept: float32, bfloat16, float16 or int8; read back as float32.
        sinks: keep rows that are immense among the others (attention sinks) among them; else they are set apart.
        dry_run: say the rows, bytes, time and memory it would take, from a few units run, and write nothing.
        sbatch: print a script for Slurm instead, such as nodes=2,gpus=4,time=12:00:00 (and partition=, account=, cpus=, mem=).
        json: print one JSON document and nothing else.
    """
    from actscope.cli import _sbatch
    from actscope.core.errors import UsageError

    given = {name: value for name, value in locals().items() if name in inspect.signature(capture).parameters}
    if out is None and not dry_run:
        raise UsageError("--out is missing; expected the folder to write, such as --out acts/. --dry-run needs none.")
    return _do(given) if sbatch is None else _sbatch.print_script(capture, given)


def _do(given: dict) -> None:
    from actscope.cli import _common
    from actscope.cli._corpus import corpus_named
    from actscope.subjects.load import load

    opened = cache(lambda: load(given["model"], device=_common.own_device(given["device"]), dtype=given["dtype"]))
    text, subject = corpus_named(given["corpus"], column=given["column"], split=given["split"], subject=opened), opened()
    chosen = {name: given[name] for name in ("tokens", "context", "packed", "special", "grads", "start", "threads")}
    chosen["dtype"] = given["store_dtype"]
    dry = given["dry_run"]
    if dry:
        facts = _predicted(subject, text, given["site"], given["out"] or Path(), chosen)
    else:
        facts = _captured(subject, text, given["site"], given["out"], {**chosen, "sinks": given["sinks"]})
    if given["json"]:
        return _common.print_json(facts)
    _print("would write" if dry else "captured", facts, given["tokens"])


def _predicted(subject, text, sites: list[str], out: Path, chosen: dict) -> dict:
    import shutil

    from actscope.stores.predict import predict

    plan = predict(subject, text, sites, measure=True, **chosen)
    near = out.absolute()
    free = shutil.disk_usage(next(path for path in (near, *near.parents) if path.exists())).free
    assert plan.seconds is not None
    facts = {"rows": plan.rows, "documents": plan.documents, "units": plan.units, "bytes": plan.bytes, "free": free}
    return {**facts, "seconds": round(plan.seconds, 2), "memory": plan.memory}


def _captured(subject, text, sites: list[str], out, chosen: dict) -> dict:
    import time

    from actscope.cli import _common
    from actscope.stores.capture import capture as take

    started = time.monotonic()
    stood = _standing(out)
    store = take(subject, text, sites, out=out, progress=_common.plain_progress("capture"), **chosen)
    return {
        "out": str(out),
        "rows": len(store),
        **({"resumed": stood} if stood else {}),
        "bytes": sum(path.stat().st_size for path in out.glob("unit-*")),
        "ports": {str(port): width for port, width in store.ports.items()},
        "content": store.content,
        "alarms": [str(alarm) for alarm in store.alarms],
        "seconds": round(time.monotonic() - started, 2),
    }


def _standing(out) -> int:
    """Rows that an earlier run of the same capture had committed."""
    from actscope.core import artifact

    return artifact.read_manifest(out).get("rows", 0) if (out / "manifest.json").is_file() else 0


def _print(what: str, facts: dict, tokens: int | None) -> None:
    """A small table; a word when the text ended before the rows asked for; and what to type next."""
    from rich.table import Table

    from actscope.cli import _common

    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in facts.items():
        if name == "alarms":
            continue
        if name in ("bytes", "free", "memory"):
            value = f"{value / 2**20:,.1f} MiB"
        elif isinstance(value, dict):
            value = ", ".join(f"{port} ({width})" for port, width in value.items())
        table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    _common.console().print(what)
    _common.console().print(table)
    for alarm in facts.get("alarms", ()):
        _common.console().print(alarm, markup=False)
    if tokens is not None and facts["rows"] < tokens:
        _common.console().print(f"The text ended before the {tokens:,} rows asked for.")
    if "out" in facts:
        read = next(iter(facts["ports"]))
        _common.console().print(f"Next: actscope fit topk {facts['out']} --read {read} --latents 4096 --k 32 --out sae/")
