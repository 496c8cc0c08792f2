"""Explanations judged by `actscope score`: on documents that took no part in finding them, by measures of one's choice."""

import contextlib
import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.markup import escape
from rich.table import Table

from actscope.cli import _asking, _common, _scored
from actscope.core import artifact
from actscope.core.errors import BadInput, UsageError
from actscope.core.explanation import Explanation
from actscope.core.judge import Judge
from actscope.core.methods import find
from actscope.core.score import Score
from actscope.core.store import Store, split_documents
from actscope.core.subject import Subject
from actscope.core.text import TokenText
from actscope.scores._parts.bootstrap import resample
from actscope.scores._parts.reading import Reading

_ROOM = "scores.explanation"
_SHOWN = 30
_GIVEN = (
    "explanations", "dictionary", "subject", "store", "labels", "judge", "documents", "choose", "select", "report", "reading",
    "seed", "progress", "encoder", "reader", "writer",
)  # fmt: skip


def judge(flags: _scored.Flags) -> None:
    """Score explanations, by detection where no measure is named; save them with what they had and what is new, and show.
    Raises BadInput, UsageError."""
    measures = flags.measures or ["detection"]
    if flags.others:
        raise UsageError(f"--other belongs to a dictionary, and {flags.judged} holds explanations; leave it out.")
    scorers: dict[str, Any] = {name: find(_ROOM, name) for name in measures}
    explanations, extra = _explanations(flags.judged)
    asking, own = _asking.divided({**flags.settings, "judge": flags.judge})
    chosen = _scored.own_settings(_ROOM, measures, own, _GIVEN)
    store, subject = flags.opened_store(), flags.subject()
    with _judge(asking, flags.out, subject) as judging:
        dictionary = _scored.dictionary_of(flags.dictionary or Path(str(extra.get("dictionary", flags.judged))))
        _, select, report = _parts(store, extra)
        told = _common.plain_progress("score")
        given: dict[str, Any] = {
            "dictionary": dictionary, "subject": subject, "store": store, "judge": judging,
            "labels": flags.true(store, subject), "documents": report, "choose": select, "select": select, "report": report,
            "reading": Reading.of(dictionary, store, TokenText.of(store, subject), report), "seed": flags.seed,
            "progress": told, **chosen,
        }  # fmt: skip
        whole = []
        for number, (name, scorer) in enumerate(scorers.items()):
            found = _called(scorer, name, explanations, given)
            if isinstance(found, Score):
                whole.append(found)
            explanations = _with(explanations, name, found)
            told(number + 1, len(scorers), name)
    for name in scorers:
        if not any(one.name == name for one in whole) and not any(_found(one, name) for one in explanations):
            warnings.warn(
                f"None of the {len(explanations)} explanations could be judged by {name}: too few contexts for any. Capture "
                "more documents, or ask for fewer with --contexts.",
                stacklevel=2,
            )
    whole += [_mean(name, explanations, flags.seed) for name in scorers if any(_found(one, name) for one in explanations)]
    if flags.out is not None:
        artifact.save(explanations, flags.out, **extra)
    if flags.json:
        return _common.print_json({"scores": [_listed(one) for one in whole], "features": [_each(one) for one in explanations]})
    _print(explanations, list(scorers), whole, flags.out)


def _explanations(path: Path) -> tuple[list[Explanation], Mapping[str, Any]]:
    """Those saved, and what was said of how they were made."""
    found = artifact.open(path)
    if not isinstance(found, list) or not found or not all(isinstance(one, Explanation) for one in found):
        raise BadInput(f"{path} holds no explanations; expected what `actscope explain DICTIONARY STORE --out DIR` saves.")
    return found, artifact.read_manifest(path)["extra"]


def _parts(store: Store, extra: Mapping[str, Any]) -> list[list[int]]:
    """propose, select and report: as the explanations were found, if on this store; else all documents are new, and those to
    choose on are kept apart from those to report."""
    if extra.get("content") == store.content:
        return split_documents(store, 3, seed=int(extra["seed"]))
    return [[], *split_documents(store, 2, seed=int(extra.get("seed", 0)))]


@contextlib.contextmanager
def _judge(asking: _asking.Asking, out: Path | None, subject: Subject) -> Iterator[Judge]:
    """The judge of that name, with its ledger open where it asks; by embedding it is the subject's own embeddings."""
    kind: Any = find("explainers.judges", asking.judge)
    if "ledger" in inspect.signature(kind).parameters:
        with asking.ledger(out, dry_run=False) as ledger:
            yield asking.asks(ledger)
        return
    if asking != _asking.Asking(judge=asking.judge):
        raise UsageError(f"The judge {asking.judge} asks nobody; leave out the flags of a language model.")
    yield kind(subject) if isinstance(kind, type) else kind


def _called(scorer: Any, name: str, explanations: list[Explanation], given: Mapping[str, Any]) -> Any:
    takes = inspect.signature(scorer).parameters
    if "labels" in takes and given["labels"] is None:
        raise UsageError(f"The measure {name} needs to know what is true; give --labels.")
    return scorer(explanations, **{key: value for key, value in given.items() if key in takes})


def _with(explanations: list[Explanation], name: str, found: Any) -> list[Explanation]:
    """The explanations with a measure's scores in place of what it said before, of other text: none where it says nothing."""
    if isinstance(found, Score):
        return explanations
    if not isinstance(found, Mapping):
        found = {one.latent: one.score(name) for one in found}
    kept = [tuple(old for old in one.scores if old.name != name) for one in explanations]
    new = [(found[one.latent],) if one.latent in found else () for one in explanations]
    return [replace(one, scores=old + more) for one, old, more in zip(explanations, kept, new, strict=True)]


def _found(one: Explanation, name: str) -> Score | None:
    return next((score for score in one.scores if score.name == name), None)


def _mean(name: str, explanations: Sequence[Explanation], seed: int) -> Score:
    """Over latents, with an interval by resampling them."""
    scores = [score for one in explanations if (score := _found(one, name)) is not None]
    values = torch.tensor([score.value for score in scores], dtype=torch.float64)
    controls = [score.control for score in scores if score.control is not None]
    interval = None
    if len(values) > 1:
        means = resample(len(values), seed=seed) @ values / len(values)
        interval = tuple(means.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist())
    return replace(
        scores[0],
        value=float(values.mean()),
        n=len(values),
        interval=interval,  # type: ignore[arg-type]
        control=sum(controls) / len(controls) if controls else None,
        parts={},
    )


def _listed(score: Score) -> dict[str, Any]:
    return {"name": score.name, "value": score.value, "interval": score.interval, "control": score.control, "n": score.n}


def _each(one: Explanation) -> dict[str, Any]:
    return {"latent": one.latent, "meaning": one.text, **{score.name: score.value for score in one.scores}}


def _print(explanations: Sequence[Explanation], names: Sequence[str], whole: Sequence[Score], out: Path | None) -> None:
    each = [name for name in names if any(_found(one, name) for one in explanations)]
    if each:
        shown = Table(box=None, pad_edge=False)
        for heading in ("latent", "meaning", *each):
            words = heading.replace("_", " ")
            shown.add_column(words, justify="left" if heading == "meaning" else "right", no_wrap=heading != "meaning")
        for one in explanations[:_SHOWN]:
            scores = [_found(one, name) for name in each]
            shown.add_row(
                str(one.latent), escape(one.text), *("-" if score is None else f"{score.value:.2f}" for score in scores)
            )
        _common.console().print(shown)
        if len(explanations) > _SHOWN:
            _common.console().print(f"{len(explanations) - _SHOWN} more latents are not shown; --json lists all.", style="dim")
    if whole:
        _common.console().print()
        _common.console().print(_scored.table(whole))
        _common.console().print(
            "Each measure's mean over latents, its interval over latents drawn again; control: the mean of its own control. "
            "-: too few contexts here.",
            style="dim",
        )
    if out is not None:
        _common.console().print(f"Saved in {out}. Next: actscope show {out}", soft_wrap=True, markup=False)
