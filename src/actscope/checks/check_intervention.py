"""What every intervention must do. One behaviour a function; `check_intervention` runs them all.

Letters: b batch, t tokens.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from actscope.core import artifact
from actscope.core.change import Change
from actscope.core.errors import BadInput
from actscope.core.inputs import Inputs
from actscope.core.intervention import At, Context, Intervention

__all__ = ["check_intervention"]


def check_intervention(intervention: Intervention, x: Tensor, *, seen: dict | None = None, saves: bool = True) -> None:
    """Run every check on one intervention. Raises AssertionError, naming the behaviour.

    x: a value of its site, [b t ...] with b >= 2 and t >= 3. seen: values at the sites it reads. saves=False: for one that
    holds a bare function, which must then be refused by name.
    """
    b, t = x.shape[:2]
    mask = torch.ones(b, t, dtype=torch.bool)
    mask[0, -1] = False
    place = torch.arange(t).expand(b, t)
    context = Context(dict(seen or {}), Inputs(ids=place, mask=mask), place, mask)
    for check in (_pure, _shape, _at, _follows):
        check(intervention, x, context)
    (_saved if saves else _refused)(intervention, x, context)


def _pure(intervention: Intervention, x: Tensor, context: Context) -> None:
    before, seen = x.clone(), {site: value.clone() for site, value in context.seen.items()}
    first = intervention(x, context)
    assert torch.equal(x, before), "it altered the value it was given; return a new tensor"
    assert all(torch.equal(context.seen[site], value) for site, value in seen.items()), "it altered a value that it reads"
    assert torch.equal(intervention(x, context), first), "the same value twice gave two results"


def _shape(intervention: Intervention, x: Tensor, context: Context) -> None:
    for given in (x, x.double()):
        new = intervention(given, context)
        assert new.shape == given.shape, f"shape {tuple(new.shape)} in place of {tuple(given.shape)}"
        assert new.dtype == given.dtype, f"{new.dtype} in place of {given.dtype}"


def _at(intervention: Intervention, x: Tensor, context: Context) -> None:
    """Inside `At`, positions that are not named stay bitwise as they are, and those named get what it gives alone."""
    where = torch.zeros(x.shape[:2], dtype=torch.bool)
    where[:, 1] = True
    inside = At(intervention, where)
    assert inside.site == intervention.site and inside.reads == intervention.reads
    new = inside(x, context)
    assert torch.equal(new[~where], x[~where]), "a position that At leaves out was touched"
    assert torch.equal(new[where], intervention(x, context)[where]), "At does not do what the intervention does"


def _follows(intervention: Intervention, x: Tensor, context: Context) -> None:
    """It acts on what it is given now, not on what an earlier call gave it."""
    first = intervention(x, context)
    intervention(x * 3 + 1, context)
    assert torch.equal(intervention(x, context), first), "a call in between changed its result: it keeps state"


def _saved(intervention: Intervention, x: Tensor, context: Context) -> None:
    opened = _round_trip(intervention)
    assert isinstance(opened, Change) and opened.origin == "check", f"a {type(opened).__name__} came back for a Change"
    (back,) = opened.interventions
    assert back.site == intervention.site and back.reads == intervention.reads
    assert torch.equal(back(x, context), intervention(x, context)), "saved and opened, it does something else"


def _refused(intervention: Intervention, x: Tensor, context: Context) -> None:
    _raises(lambda: _round_trip(intervention), type(intervention).__name__)


def _round_trip(intervention: Intervention) -> object:
    with tempfile.TemporaryDirectory() as folder:
        artifact.save(Change((intervention,), origin="check"), Path(folder) / "change")
        return artifact.open(Path(folder) / "change")


def _raises(act: Callable[[], object], named: str) -> None:
    try:
        act()
    except BadInput as error:
        assert named in str(error) or "function" in str(error), f"the refusal does not name {named}: {error}"
        return
    raise AssertionError(f"a Change with {named} was saved although it holds what cannot be saved by name")
