"""What every selection rule offers, and finding one by name: `activation="topk"` is the file `select_topk.py`.

Letters: n rows, d width read, o width written, m latents.
"""

import abc
import importlib
import importlib.util
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from actscope.core.codes import Codes
from actscope.core.errors import BadInput, UnknownMethod


class Side(NamedTuple):
    """What a selection sees of one training step. All in the wiring's own units."""

    x: Float[Tensor, "n d"]
    weight: Float[Tensor, "m d"]  # the encoder
    bias: Float[Tensor, " m"]
    centre: Float[Tensor, " d"]  # subtracted before encoding
    target: Float[Tensor, "n o"]  # what is to be rebuilt, the skip path's share taken off
    atoms: Float[Tensor, "m o"]
    offset: Float[Tensor, " o"]  # what no latent gives
    price: Float[Tensor, " m"] | float  # of a latent's activity in a sparsity penalty: its atom's length, summed over ports
    progress: float  # 0 at the start of training, 1 at the end
    grads: Float[Tensor, "n d"] | None = None  # of the model's loss at what is read, where the method needs them


class Pull(NamedTuple):
    """What a row's loss would gain from each latent: the gradient, and the atoms it is held against."""

    grads: Float[Tensor, "n d"]  # of the model's loss at what is read
    atoms: Float[Tensor, "m d"]


class Selection(nn.Module, abc.ABC):
    """Which latents of a row are active, and how strongly, given the encoder's parameters."""

    fixed_number = False  # it chooses how many are active, so that a longer encoder makes the same ones active
    splits = False  # whether its latents may stand in several processes
    by_latent: tuple[str, ...] = ()  # its parameters with one row a latent
    expected = 32.0  # active latents a row, where the rule sets it: what a latent's turn is reckoned by
    needs: frozenset[str] = frozenset()  # {"grads"}: what else a batch must hold to be trained on
    rebuilds_only = ""  # why the rule is for dictionaries that write what they read, where it is
    whole_only = ""  # why the rule needs one dictionary for all that is written, where it does

    @abc.abstractmethod
    def forward(
        self,
        x: Float[Tensor, "n d"],
        weight: Float[Tensor, "m d"],
        bias: Float[Tensor, " m"],
        centre: Float[Tensor, " d"],
        pull: Pull | None = None,
    ) -> Codes:
        """The codes of (x - centre) @ weight.T + bias, each row by itself, differentiable; entries may be 0 and stand in
        any order. pull: where gradients are given and the dictionary writes what it reads."""

    def training_codes(self, side: Side) -> tuple[Codes, dict[str, Tensor]]:
        """(codes of a training step, the rule's own terms of the loss by name, already weighted). The wiring adds the squared
        error a coordinate."""
        return self(side.x, side.weight, side.bias, side.centre), {}

    def after_step(self, progress: float) -> None:
        """Default: nothing to do."""

    def settled(self, codes: Codes) -> Codes:
        """The same codes as an encoder hands them out: zeros left out, latents ascending in a row."""
        kept = codes.value != 0
        row, index, value = codes.row, codes.index, codes.value
        if not kept.all():
            row, index, value = row[kept], index[kept], value[kept]
        key = row * codes.width + index
        if not (key.diff() > 0).all():
            order = key.argsort()
            index, value = index[order], value[order]
        ends = row.new_zeros(len(codes) + 1)
        ends[1:] = row.bincount(minlength=len(codes)).cumsum(0)
        return Codes(ends, index, value, codes.width)


def make(activation: str, n_latents: int, *, k: int, rule: Mapping[str, object]) -> Selection:
    """The selection rule of that name. k: given to the rules that take it; rule: the others of its settings.

    Raises UnknownMethod, BadInput for settings the rule does not take.
    """
    name = f"actscope.dictionaries._parts.select_{activation}"
    if not activation.isidentifier() or importlib.util.find_spec(name) is None:
        raise UnknownMethod(f"There is no activation {activation!r}; expected one of: {', '.join(rules())}.")
    kind = importlib.import_module(name).Select
    takes = set(inspect.signature(kind).parameters) - {"n_latents"}
    if unknown := set(rule) - takes:
        raise BadInput(f"activation={activation!r} does not take {sorted(unknown)}; it takes {sorted(takes)}.")
    return kind(n_latents, **{**({"k": k} if "k" in takes else {}), **rule})


def rules() -> list[str]:
    """The names `activation` may have."""
    files = Path(__file__).parent.glob("select_*.py")
    return sorted(file.stem.removeprefix("select_") for file in files)
