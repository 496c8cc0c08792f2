"""actscope organism"""

from pathlib import Path
from typing import Literal

__all__ = ["organism"]


def organism(
    action: Literal["train", "eval"],
    model: str = "pocket",
    *,
    out: Path | None = None,
    scale: float = 1.0,
    root: Path | None = None,
    n: int = 400,
    seed: int = 0,
    device: str = "cpu",
    json: bool = False,
) -> None:
    """Train a built-in model again, or print what each of its rules reached on held-out prompts and text.

    Examples: `actscope organism eval pocket`, `actscope organism train pocket --out runs/pocket`.

    Args:
        action: train (resumable: the same command goes on where it stopped) or eval.
        model: pocket or pocket-mini; for eval also a folder with config.json, model.safetensors and tokenizer.json.
        out: folder to train into, or to write the table into (default for train: runs/MODEL).
        scale: share of the tokens the shipped weights took, to train on.
        root: folder of a standard library to read (default: the running Python's).
        n: held-out prompts a rule.
        seed: of the training data and the first weights, or of the prompts.
        device: cpu or cuda.
        json: print one JSON document and nothing else.
    """
    from actscope.cli import _common

    if action == "train":
        from actscope.organisms.train import train_organism

        folder = train_organism(
            model, out or Path("runs") / model, device=device, scale=scale, seed=seed, root=root,
            progress=_common.plain_progress("organism"),
        )  # fmt: skip
        return _common.print_json({"folder": str(folder)}) if json else _common.console().print(folder)
    _evaluate(model, out, root, n, seed, device, json)


def _evaluate(model: str, out: Path | None, root: Path | None, n: int, seed: int, device: str, json: bool) -> None:
    """Print the table, and write it to `out` where that is given."""
    import dataclasses
    from importlib.resources import files as package_files

    from rich.table import Table

    from actscope.cli import _common
    from actscope.core import files
    from actscope.organisms.evaluate import BARS, evaluate
    from actscope.subjects.load import load

    subject = load(model, device=device)
    hashes = Path(str(package_files("actscope").joinpath("organisms", "weights", "pocket", "training.safetensors")))
    scores = evaluate(subject, n=n, seed=seed, root=root, trained_on=hashes, progress=_common.plain_progress("organism"))
    told = {score.name: {**dataclasses.asdict(score), "bar": BARS.get(score.name)} for score in scores}
    if out is not None:
        files.write_json(out / "truth.json", {"model": subject.fingerprint, "seed": seed, "scores": told})
    if json:
        return _common.print_json(told)
    table = Table("rule", "held out", "95% interval", "bar of pocket", "corrupted", "n", box=None, pad_edge=False)
    for score in scores:
        if score.name == "text":
            unit, size = score.unit, f"{score.parts['bytes']:,.0f} bytes"
            table.add_row("real text", f"{score.value:.3f} {unit}", "", f"< {score.control:.3f} (5-gram)", "", size)
            continue
        bar = f">= {BARS[score.name]:.0%}" if score.name in BARS else ""
        spread = "" if score.interval is None else f"{score.interval[0]:.1%} to {score.interval[1]:.1%}"
        table.add_row(score.name, f"{score.value:.1%}", spread, bar, f"{score.control or 0:.1%}", str(score.n))
        if score.parts and min(score.parts.values()) < 0.99:
            for kind, share in score.parts.items():
                table.add_row(f"  {kind}", f"{share:.1%}")
    _common.console().print(table)
