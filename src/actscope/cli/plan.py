"""actscope plan"""

from pathlib import Path

__all__ = ["plan"]


def plan(
    *,
    model: str,
    tokens: str,
    latents: str = "16k",
    site: str | None = None,
    k: int = 32,
    method: str = "topk",
    corpus: str = "standard-library",
    out: Path = Path(),
    context: int | None = None,
    packed: bool = False,
    grads: bool = False,
    batch: int = 4096,
    gpus: int | None = None,
    gpu_tflops: float | None = None,
    efficiency: float | None = None,
    disk_rate: float | None = None,
    price: float | None = None,
    dtype: str = "float32",
    matmul: str = "float32",
    json: bool = False,
) -> None:
    """Say what a capture and a fit will take before either is begun: time, memory, disk, cost, and what that rests on.

    Args:
        model: pocket, a hub id that is on disk, or a folder with config.json; weights are not needed.
        tokens: rows to capture and to fit on, such as 500k, 20M or 10B.
        latents: of the dictionary, such as 16k or 1M.
        site: where to read; the middle layer's resid_post when left out.
        k: active latents of a row.
        method: one of `actscope methods dictionaries`.
        corpus: text such as will be captured, for the lengths of documents and the tokenizer's speed.
        out: a folder on the disk to be written to, whose speed is measured.
        context: tokens a sequence; the model's own when left out.
        packed: run several short documents in one row.
        grads: keep gradients too.
        batch: rows a step of the fit.
        gpus: accelerators to plan for; this machine as it is when left out.
        gpu_tflops: of one of them at its best; an H100's when left out.
        efficiency: the share of that which is reached; 0.4 when left out.
        disk_rate: MB/s that all of them write together; measured here, a disk for every 8, when left out.
        price: of an hour of one of them, or of this machine.
        dtype: of the model, and so of the rows.
        matmul: of the encoder's product, "float32" or "bfloat16".
        json: print one JSON document and nothing else.
    """
    rates = {"gpus": gpus, "tflops": gpu_tflops, "share": efficiency, "disk": disk_rate and disk_rate * 1e6, "price": price}
    settings = {"context": context, "packed": packed, "grads": grads, "batch": batch, "dtype": dtype, "matmul": matmul}
    sizes = {"tokens": _number("--tokens", tokens), "latents": _number("--latents", latents), "k": k, "method": method}
    _say({"model": model, "site": site, **sizes, **settings, **rates}, corpus, out, json)


def _say(given: dict, corpus: str, out: Path, json: bool) -> None:
    import dataclasses

    from actscope.cli import _common
    from actscope.cli._corpus import corpus_named
    from actscope.subjects.blank import blank
    from actscope.training.costs import Asked, costs

    if given["site"] is None:
        layers = blank(given["model"], device="meta").model.config.num_hidden_layers
        given["site"] = f"layers.{(layers - 1) // 2}.resid_post"
    asked = Asked(**given)
    found = costs(asked, corpus_named(corpus), near=out)
    if json:
        return _common.print_json({"asked": dataclasses.asdict(asked), **dataclasses.asdict(found)})
    _print(asked, found)


def _print(asked, found) -> None:
    from rich.table import Table

    from actscope.cli import _common

    where = "this machine" if asked.gpus is None else f"{asked.gpus} accelerators"
    table = Table("", "time", "memory a process", "disk", "hours in all", "cost", box=None)
    for one in (found.capture, found.fit):
        cost = "give --price" if one.price is None else f"{one.price:,.2f}"
        table.add_row(one.what, _time(one.seconds), _size(one.memory), _size(one.bytes), f"{one.hours:,.2f}", cost)
    say = _common.console().print
    say(f"{asked.tokens:,} tokens of {asked.model} at {asked.site}, {asked.latents:,} latents, on {where}:", markup=False)
    say(table)
    rests = Table("It rests on", "", "", box=None)
    for line in found.rests_on:
        rests.add_row(*line)
    say(rests)


def _number(flag: str, text: str) -> int:
    """500, 16k, 1.5M or 10B as a number."""
    import re

    from actscope.core.errors import UsageError

    found = re.fullmatch(r"([\d_,]*\.?\d+)([kKMBT]?)", text.strip())
    value = (
        0
        if found is None
        else round(float(re.sub("[_,]", "", found[1])) * 1000 ** "_kMBT".index(found[2].replace("K", "k") or "_"))
    )
    if value < 1:
        raise UsageError(f"{flag} {text} cannot be; expected a number such as 500000, 16k, 1M or 10B.")
    return value


def _time(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.1f} s"


def _size(size: float | int) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"
