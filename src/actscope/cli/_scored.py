"""A dictionary judged by `actscope score`: opened, scored, saved and shown."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from actscope.cli import _common, _flags
from actscope.cli._corpus import corpus_named
from actscope.core import artifact
from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput, UsageError
from actscope.core.labels import Labels
from actscope.core.methods import find
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.organisms.truth import truth
from actscope.scores._all import NOUNS, score
from actscope.subjects.load import load

_SPANS = "spans"  # the field of a line of JSON that labels its text


@dataclass(frozen=True)
class Flags:
    """What is judged on what and by what, and where that is told: of dictionaries and explanations alike."""

    judged: Path
    store: Path
    model: str
    measures: Sequence[str] | None
    labels: str | None
    others: Sequence[Path]
    dictionary: Path | None
    judge: str
    settings: Mapping[str, str]
    out: Path | None
    seed: int
    device: str
    json: bool

    @property
    def holds_values(self) -> bool:
        """Whether explanations are judged, or some other values. Raises BadInput for no artifact."""
        return artifact.read_manifest(self.judged)["kind"] == "values"

    def subject(self) -> Subject:
        return load(self.model, device=self.device)

    def opened_store(self) -> Store:
        """Raises BadInput where its folder holds something else."""
        kept = artifact.open(self.store)
        if artifact.read_manifest(self.store)["kind"] != "store":  # isinstance would open every shard
            raise _wrong(self.store, kept, "store")
        return kept  # type: ignore[return-value]

    def true(self, store: Store, subject: Subject) -> Labels | None:
        """What is true of the store's text. Raises BadInput where the labels are of another text, or where there are none."""
        if self.labels is None:
            return None
        corpus = corpus_named(self.labels, subject=lambda: subject, spans=_SPANS)
        last = max(store.documents) + 1
        listed = {number: one.id for number, one in zip(range(last), corpus.documents(), strict=False)}
        for number, name in store.documents.items():
            if listed.get(number) != name:
                raise BadInput(
                    f"Document {number} is {name} in {self.store}, and {listed.get(number, 'missing')} in {self.labels}; "
                    "labels stand in the text that was captured, line by line. Give that file, with its spans."
                )
        return truth(corpus, subject, documents=last, plain=None)

    def told(self, values: object, shown: Table, listed: object) -> None:
        """Save, and print one or the other."""
        if self.out is not None:
            artifact.save(values, self.out)
        if self.json:
            return _common.print_json(listed)
        _common.console().print(shown)


def judge(flags: Flags) -> None:
    """Score a dictionary, save and show. Raises BadInput where a folder holds something else, UsageError for what is of
    explanations alone."""
    if flags.dictionary is not None or flags.judge != "rule":
        raise UsageError(f"{flags.judged} holds a dictionary; --dictionary and --judge belong to explanations, leave them out.")
    learned, *rest = map(dictionary_of, (flags.judged, *flags.others))
    store, subject = flags.opened_store(), flags.subject()
    scores = score(
        learned,
        subject,
        store,
        flags.true(store, subject),
        measures=flags.measures,
        others=rest,
        seed=flags.seed,
        progress=_common.plain_progress("score"),
        **own_settings("scores.dictionary", flags.measures or [], flags.settings, NOUNS),
    )
    flags.told(scores, table(scores), [dataclasses.asdict(one) for one in scores])


def own_settings(room: str, measures: Sequence[str], given: Mapping[str, str], not_flags: Sequence[str]) -> dict[str, Any]:
    """The flags that are settings of the one measure named. Raises UsageError for a setting it lacks, or several measures."""
    if not given:
        return {}
    flags = ", ".join(f"--{name}" for name in given)
    if len(measures) != 1:
        raise UsageError(f"{flags} given with {len(measures)} measures named; a setting belongs to one: give one --measure.")
    return _flags.settings(find(room, measures[0]), measures[0], given, not_flags)


def dictionary_of(path: Path) -> Dictionary:
    """Raises BadInput where the folder holds something else."""
    opened = artifact.open(path)
    if not isinstance(opened, Dictionary):
        raise _wrong(path, opened, "dictionary")
    return opened


def _wrong(path: Path, opened: object, expected: str) -> BadInput:
    return BadInput(
        f"{path} holds a {type(opened).__name__}; expected a {expected}. "
        "The order is `actscope score DICTIONARY STORE --model NAME`."
    )


def table(scores: Sequence[Score]) -> Table:
    """A line a score, and what cross-entropy was before and after."""
    shown = Table("measure", "value", "95% interval", "control", "unit", "n", box=None, pad_edge=False)
    for one in scores:
        spread = "" if one.interval is None else f"{one.interval[0]:.4f} to {one.interval[1]:.4f}"
        control = "" if one.control is None else f"{one.control:.4f}"
        shown.add_row(one.name, f"{one.value:.4f}", spread, control, one.unit, f"{one.n:,}")
        for name in ("clean", "spliced", "mean", "zero", "recovered_zero"):
            if one.name == "cross_entropy" and name in one.parts:
                unit = "share of the zero-ablation gap" if name == "recovered_zero" else "nats per token"
                shown.add_row(f"  {name}", f"{one.parts[name]:.4f}", "", "", unit, "")
    return shown
