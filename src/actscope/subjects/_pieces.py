"""Interventions while decoding: each sees a prompt, then one generated token after another, of every row, however they are run.

Letters: b rows, n rows that are run, t tokens of a run, w tokens of a piece, s keys of a piece.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from actscope.core.errors import BadInput
from actscope.core.inputs import Inputs
from actscope.core.intervention import Context, Intervention
from actscope.core.site import Site

MAPS = ("attn_scores", "attn_pattern")  # sites of queries and keys: [b h t t], [b t t] of one head


class Piece(NamedTuple):
    """The prompt or one generated token of all b rows, and where it stands in a run of n of them.

    columns: its place among the tokens of the run, -1 where the row has none. keys: the same for what its tokens may attend to;
    None where they stand in order. step: 0 for the prompt, then 1, 2...
    """

    step: int
    rows: Int[Tensor, " n"]
    columns: Int[Tensor, "n w"]
    keys: Int[Tensor, "n s"] | None
    inputs: Inputs  # of all b rows
    positions: Int[Tensor, "b w"]
    mask: Bool[Tensor, "b w"]

    def take(self, x: Tensor, site: Site) -> Tensor:
        """The piece of a run's tensor, for all b rows; zeros for those not run."""
        maps = site.kind in MAPS
        found = _picked(x.movedim(-2, 1) if maps else x, self.columns)
        if maps and self.keys is not None:
            found = _picked(found.movedim(-1, 1), self.keys).movedim(1, -1)
        whole = found.new_zeros(len(self.mask), *found.shape[1:])
        whole[self.rows] = found
        return whole.movedim(1, -2) if maps else whole

    def put(self, x: Tensor, new: Tensor, site: Site) -> Tensor:
        """A copy of a run's tensor with the piece in it."""
        maps, out = site.kind in MAPS, x.clone()
        inner, given = (out.movedim(-2, 1), new.movedim(-2, 1)) if maps else (out, new)
        row, place = torch.where(self.columns >= 0)
        values = given[self.rows[row], place]
        if maps and self.keys is not None:
            old = torch.cat([inner[row, self.columns[row, place]], values[..., :1]], dim=-1)  # one more, for keys that are not
            keys = self.keys[row].where(self.keys[row] >= 0, old.shape[-1] - 1)
            keys = keys.view(len(row), *[1] * (values.dim() - 2), -1).expand_as(values)
            values = old.scatter(-1, keys, values)[..., :-1]
        inner[row, self.columns[row, place]] = values
        return out


@dataclass(frozen=True)
class Pieced:
    """An intervention, called on each piece of a run by itself."""

    inner: Intervention
    pieces: tuple[Piece, ...]

    @property
    def site(self) -> Site:
        return self.inner.site

    @property
    def reads(self) -> tuple[Site, ...]:
        return self.inner.reads

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        for piece in self.pieces:
            value = piece.take(x, self.site)
            seen = {site: piece.take(each, site) for site, each in context.seen.items()}
            new = self.inner(value, Context(seen, piece.inputs, piece.positions, piece.mask, piece.step))
            if new.shape != value.shape or new.dtype != value.dtype:
                raise BadInput(
                    f"The intervention {type(self.inner).__name__} at {self.site} gave {new.dtype} {tuple(new.shape)} where "
                    f"{value.dtype} {tuple(value.shape)} stood; expected the same shape and type."
                )
            x = piece.put(x, new, self.site)
        return x


def _picked(x: Tensor, columns: Int[Tensor, "n w"]) -> Tensor:
    """x[i, columns[i]], zeros where a column is -1."""
    found = x[torch.arange(len(columns), device=x.device)[:, None], columns.clamp(min=0)]
    absent = (columns < 0).view(*columns.shape, *[1] * (found.dim() - 2))
    return found.masked_fill(absent, 0.0)
