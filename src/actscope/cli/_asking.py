"""Who answers for methods that ask a language model, from the flags: a server or a model here, its ledger, a judge."""

import contextlib
import inspect
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from actscope.cli import _flags
from actscope.core.errors import UsageError
from actscope.core.ledger import Cost, Ledger
from actscope.core.methods import find
from actscope.core.source import Source
from actscope.explainers.sources.endpoint import Endpoint
from actscope.explainers.sources.local import Local
from actscope.subjects.load import load


class Announced(Exception):
    """What a dry run ends with: the cost, before anything is asked."""

    def __init__(self, cost: Cost):
        super().__init__(str(cost))
        self.cost = cost


@dataclass(frozen=True)
class Asking:
    """The flags of methods that ask. price_in, price_out: money for a million tokens."""

    endpoint: str | None = None
    explainer_model: str | None = None
    judge: str = "language_model"
    budget: float | None = None
    price_in: float | None = None
    price_out: float | None = None
    concurrent: int = 4
    key_env: str = "ACTSCOPE_API_KEY"

    @contextlib.contextmanager
    def ledger(self, folder: Path | None, dry_run: bool) -> Iterator[Ledger]:
        """The ledger of a run that saves into `folder`: beside it, under its name and ".ledger". A dry run makes none."""
        if self.explainer_model is None:
            raise UsageError(
                "--explainer-model is missing: the name of the model at --endpoint, or a folder or hub id of one to load here."
            )
        if folder is None and not dry_run:
            raise UsageError("--out is missing: beside it every answer is kept, so that none is paid for twice.")
        if (self.price_in is None) != (self.price_out is None) or (self.budget is not None and self.price_in is None):
            raise UsageError("--price-in and --price-out go together, and --budget needs both: money for a million tokens.")
        price = None if self.price_in is None or self.price_out is None else (self.price_in, self.price_out)
        with contextlib.ExitStack() as open_:
            place = None if folder is None else folder.with_name(f"{folder.name}.ledger")
            if place is None or (dry_run and not place.exists()):
                place = Path(open_.enter_context(tempfile.TemporaryDirectory()))
            made = Ledger(self._source(), place, price=price, budget=self.budget, concurrent=self.concurrent)
            yield open_.enter_context(made)

    def asks(self, ledger: Ledger) -> Any:
        """The judge of that name; None for "none"."""
        if self.judge == "none":
            return None
        kind: Any = find("explainers.judges", self.judge)
        if "ledger" in inspect.signature(kind).parameters:
            return kind(ledger)
        return kind() if isinstance(kind, type) else kind

    def _source(self) -> Source:
        assert self.explainer_model is not None
        if self.endpoint is None:
            return Local(load(self.explainer_model))
        return Endpoint(self.endpoint, self.explainer_model, key_env=self.key_env)


def divided(given: Mapping[str, str]) -> tuple[Asking, dict[str, str]]:
    """What the flags say about asking, and all others. Raises UsageError."""
    names = {field.name for field in fields(Asking)}
    mine = {flag: text for flag, text in given.items() if flag.replace("-", "_") in names}
    found: dict[str, Any] = _flags.settings(Asking, "asking", mine)
    return Asking(**found), {flag: text for flag, text in given.items() if flag not in mine}


def announce(dry_run: bool) -> Callable[[Cost], None]:
    """What is done with the cost before anything is asked: a dry run ends there."""

    def told(cost: Cost) -> None:
        if dry_run:
            raise Announced(cost)
        sys.stderr.write(f"explain: at most {cost}, where the first answers can be used\n")

    return told
