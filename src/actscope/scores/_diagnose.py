"""Every measure of a subject that can be taken, one after the other, with what each declared and took."""

import inspect
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from actscope.core import methods
from actscope.core.errors import BadInput
from actscope.core.progress import Progress, quiet
from actscope.core.score import Score
from actscope.core.subject import Subject
from actscope.scores._parts.cost import Cost, cost_of, counted
from actscope.scores._parts.passages import Passages

__all__ = ["diagnose"]

_ROOM = "scores.subject"


@dataclass(frozen=True)
class Examined:
    """One measure. declared, measured: tokens run forward, by its cost and in truth. why: why nothing was measured, else ""."""

    name: str
    cost: Cost
    declared: int
    measured: int = 0
    seconds: float = 0.0
    scores: tuple[Score, ...] = ()
    why: str = ""


def planned(
    passages: Passages, given: Mapping[str, object] | None = None, *, needs: Iterable[str] | None = None
) -> list[Examined]:
    """What `diagnose` would take, without running anything; `why` of those that lack something that is not given."""
    found = []
    for name in methods.names(_ROOM):
        measure: Any = methods.find(_ROOM, name)
        cost = cost_of(measure)
        if cost.needs == "checkpoints" or (needs is not None and cost.needs not in set(needs)):
            continue
        lacking = [one for one in _required(measure) if one not in (given or {})]
        why = f"needs {' and '.join(lacking)}, not given" if lacking else ""
        found.append(Examined(name, cost, 0 if why else cost.tokens(passages.tokens, passages.documents), why=why))
    return found


def diagnose(
    subject: Subject,
    passages: Passages,
    *,
    given: Mapping[str, object] | None = None,
    needs: Iterable[str] | None = None,
    seed: int = 0,
    progress: Progress = quiet,
) -> list[Examined]:
    """Every measure of scores/subject/ on a text, in the order of their names.

    given: what some measures need beside the text, by parameter: labels and classes, a dictionary. needs: only measures whose
    cost is of these kinds, such as "one pass". A measure that cannot be taken of this subject says why and is left out.
    Raises NotFinite, WrongSubject, Interrupted.
    """
    plan = planned(passages, given, needs=needs)
    found = []
    for number, one in enumerate(plan):
        progress(number, len(plan), one.name)
        found.append(one if one.why else _run(one, subject, passages, given or {}, seed))
    progress(len(plan), len(plan), "")
    return found


def _run(one: Examined, subject: Subject, passages: Passages, given: Mapping[str, object], seed: int) -> Examined:
    measure: Any = methods.find(_ROOM, one.name)
    twin, spent = counted(subject)
    began, why, scores = time.monotonic(), "", ()
    try:
        scores = tuple(measure(twin, passages, seed=seed, **{name: given[name] for name in _required(measure)}))
    except BadInput as error:
        if type(error) is not BadInput:  # NotFinite, WrongSubject...: nothing here can be trusted
            raise
        why = str(error)
    return Examined(one.name, one.cost, one.declared, spent.tokens, time.monotonic() - began, scores, why)


def _required(measure: Any) -> list[str]:
    """What a measure takes beside the subject and the text, and cannot do without."""
    parameters = list(inspect.signature(measure).parameters.values())[2:]
    return [each.name for each in parameters if each.default is inspect.Parameter.empty]
