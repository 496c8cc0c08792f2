"""A dictionary judged by `actscope score`: opened, scored, saved and shown."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from actscope.cli import _common
from actscope.core import artifact
from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput
from actscope.core.score import Score
from actscope.scores._all import score
from actscope.subjects.load import load


@dataclass(frozen=True)
class Run:
    """The flags of a run."""

    dictionary: Path
    store: Path
    model: str
    measures: list[str] | None
    others: list[Path]
    out: Path | None
    seed: int
    device: str
    json: bool

    def do(self) -> None:
        """Score, save and show. Raises BadInput where a folder holds something else."""
        learned, *others = map(_dictionary, (self.dictionary, *self.others))
        kept = artifact.open(self.store)
        if artifact.read_manifest(self.store)["kind"] != "store":  # isinstance would open every shard
            raise _wrong(self.store, kept, "store")
        scores = score(
            learned,
            load(self.model, device=self.device),
            kept,  # type: ignore[arg-type]
            measures=self.measures,
            others=others,
            seed=self.seed,
            progress=_common.plain_progress("score"),
        )
        if self.out is not None:
            artifact.save(scores, self.out)
        if self.json:
            return _common.print_json([dataclasses.asdict(one) for one in scores])
        _common.console().print(_table(scores))


def _dictionary(path: Path) -> Dictionary:
    opened = artifact.open(path)
    if not isinstance(opened, Dictionary):
        raise _wrong(path, opened, "dictionary")
    return opened


def _wrong(path: Path, opened: object, expected: str) -> BadInput:
    return BadInput(
        f"{path} holds a {type(opened).__name__}; expected a {expected}. "
        "The order is `actscope score DICTIONARY STORE --model NAME`."
    )


def _table(scores: Sequence[Score]) -> Table:
    table = Table("measure", "value", "95% interval", "control", "unit", "n", box=None, pad_edge=False)
    for one in scores:
        spread = "" if one.interval is None else f"{one.interval[0]:.4f} to {one.interval[1]:.4f}"
        control = "" if one.control is None else f"{one.control:g}"
        table.add_row(one.name, f"{one.value:.4f}", spread, control, one.unit, f"{one.n:,}")
        for name in ("clean", "spliced", "mean", "zero", "recovered_zero"):
            if one.name == "cross_entropy" and name in one.parts:
                unit = "share of the zero-ablation gap" if name == "recovered_zero" else "nats per token"
                table.add_row(f"  {name}", f"{one.parts[name]:.4f}", "", "", unit, "")
    return table
