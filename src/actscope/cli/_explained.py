"""Explanations found, saved and shown by `actscope explain`."""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from actscope.cli import _asking, _common, _flags
from actscope.core import artifact
from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput, Unfinished, UsageError
from actscope.core.explanation import Explanation
from actscope.core.ledger import Cost, Ledger
from actscope.core.methods import find
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.subjects.load import load

_NOT_FLAGS = ("dictionary", "subject", "store", "latents", "contexts", "seed", "ledger", "judge", "announce", "progress")


@dataclass(frozen=True)
class Run:
    """The flags of a run."""

    dictionary: Path
    store: Path
    model: str
    method: str
    out: Path | None
    show: int
    seed: int
    device: str
    dtype: str
    json: bool
    dry_run: bool

    def do(self, latents: list[int] | None, contexts: int | None, settings: Mapping[str, str]) -> None:
        """Explain, save and show. Raises UsageError for flags that the method does not take."""
        explainer: Any = find("explainers", self.method)
        takes = inspect.signature(explainer).parameters
        asks = "ledger" in takes
        if needs := [name for name, one in takes.items() if one.default is one.empty and name not in _NOT_FLAGS]:
            raise UsageError(
                f"{self.method} needs {', '.join(needs)}, which no flag can give; call it from Python: "
                f'act.method("explainers", "{self.method}").'
            )
        learned, rows = self._opened()
        asking, own = _asking.divided(settings)
        if asking != _asking.Asking() and not asks:
            raise UsageError(
                f"{self.method} asks nobody; leave out the flags of a language model, or give --method language_model."
            )
        given = {**_flags.settings(explainer, self.method, own, _NOT_FLAGS), "latents": latents, "seed": self.seed}
        if contexts is not None and "contexts" not in takes:
            raise UsageError(f"{self.method} needs no contexts; leave --contexts out.")
        if contexts is not None:
            given["contexts"] = contexts
        given = {name: value for name, value in given.items() if name in takes}
        asked = len(latents) if latents else learned.n_latents
        work = f"{asked} latents on {len(rows):,} tokens by {self.method}"
        if self.dry_run and not asks:
            return _common.console().print(f"Would explain {work}.")
        subject = load(self.model, device=self.device, dtype=self.dtype)
        given["progress"] = _common.plain_progress("explain")
        if not asks:
            return self._tell(explainer(learned, subject, rows, **given), asked, rows.content)
        with asking.ledger(self.out, self.dry_run) as ledger:
            given |= {"ledger": ledger, "judge": asking.asks(ledger), "announce": _asking.announce(self.dry_run)}
            try:
                found = explainer(learned, subject, rows, **given)
            except _asking.Announced as announced:
                return self._would_cost(announced.cost, work)
            except Unfinished as stop:
                self._tell(stop.found, asked, rows.content, ledger)
                raise
            self._tell(found, asked, rows.content, ledger)

    def _opened(self) -> tuple[Dictionary, Store]:
        """Both, from their folders. Raises BadInput where one is something else."""
        learned, rows = artifact.open(self.dictionary), artifact.open(self.store)
        if not isinstance(learned, Dictionary):
            raise BadInput(
                f"{self.dictionary} holds a {type(learned).__name__}; expected a dictionary, as `actscope fit` saves."
            )
        if not isinstance(rows, Store):
            raise BadInput(f"{self.store} holds a {type(rows).__name__}; expected a store, as `actscope capture` makes.")
        return learned, rows

    def _would_cost(self, most: Cost, work: str) -> None:
        if self.json:
            return _common.print_json({"would_cost": dataclasses.asdict(most)})
        _common.console().print(f"Would explain {work}: at most {most}, where the first answers can be used.", soft_wrap=True)

    def _tell(self, found: Sequence[Any], asked: int, content: str, ledger: Ledger | None = None) -> None:
        """Save what was found where it is to be saved, and print it. content: the store's hash."""
        if self.out is not None and (found or ledger is None):
            said = {"method": self.method, "dictionary": str(self.dictionary), "store": str(self.store)}
            artifact.save(list(found), self.out, **said, content=content, asked=asked, seed=self.seed)
        if self.json:
            listed = [_as_json(one) for one in found]
            whole = {"asked": asked, "explained": len(found), "out": self.out and str(self.out), "features": listed}
            paid = {} if ledger is None else {"answers": {"spent": dataclasses.asdict(ledger.spent), **ledger.counts}}
            return _common.print_json({**whole, **paid})
        _print(found[: self.show], len(found), asked, self.out)
        if ledger is not None:
            verdicts = ", ".join(f"{count} {what}" for what, count in ledger.counts["verdicts"].items()) or "none"
            _common.console().print(f"Asked so far: {ledger.spent}. Answers: {verdicts}.", soft_wrap=True, markup=False)


_MEANT = {
    "detection": "detection: balanced accuracy on documents that took no part in finding the words. same token: the same "
    "against silent places with the same token. control: under permuted labels.",
    "direct_path": "direct path: correlation of what the weights say with what steering does to the next token. control: with "
    "what the weights of other latents say.",
}


def _score(one: Explanation) -> Score | None:
    """What an explanation is shown with: detection, or else what it was judged by first."""
    found = {score.name: score for score in reversed(one.scores)}
    return found.get("detection") or (one.scores[0] if one.scores else None)


def _as_json(one: Explanation) -> dict:
    found: dict[str, object] = {"latent": one.latent, "meaning": one.text}
    if (score := _score(one)) is not None:
        found |= {score.name: score.value, "interval": score.interval, f"{score.name}_shuffled": score.control}
        found["parts"] = dict(score.parts)
    return found | {name: one.evidence[name] for name in ("tried", "promotes", "suppresses") if name in one.evidence}


def _print(shown: Sequence[Explanation], explained: int, asked: int, out: Path | None) -> None:
    scores = [_score(one) for one in shown]
    judged = next((score.name for score in scores if score is not None), "detection")
    says = "fires on" if judged == "detection" else "what it does"
    table = Table(box=None, pad_edge=False)
    for heading in ("latent", says, judged.replace("_", " "), "same token", "control"):
        table.add_column(heading, justify="left" if heading == says else "right", no_wrap=heading != says)
    for one, score in zip(shown, scores, strict=True):
        hard = score and score.parts.get("hard")
        figures = [score and score.value, hard, score and score.control]
        cells = ["-" if figure is None else f"{figure:.2f}" for figure in figures]
        table.add_row(str(one.latent), escape(one.text.removeprefix("fires on ")), *cells)
    console = _common.console()
    console.print(table)
    console.print(
        f"{explained} of {asked} latents explained, {len(shown)} shown; the others had too few contexts in a part of the "
        f"documents, or no answer that is a label. {_MEANT.get(judged, '')}",
        style="dim",
    )
    if out is not None and shown:
        console.print(f"Saved in {out}. Next: actscope show {out}", soft_wrap=True, markup=False)
