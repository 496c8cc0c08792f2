"""How each kind of site is cut out of, and put back into, the tensor at one side of a module.

Letters: b batch, t tokens, h heads, d width.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from actscope.core.site import PART_AXIS, SiteInfo

Side = str  # "in", "out", or inside a module's own function the kind of the site: "q_rot", "attn_pattern", "router"...


@dataclass(frozen=True)
class Tap:
    """A site that is the whole tensor at one side of a module. Also the base of the others.

    place: module path and side.
    """

    info: SiteInfo
    side: Side

    plain = True  # get gives the tensor itself
    shared = False  # the tensor is used again beside the module, so a write goes into it in place

    @property
    def place(self) -> tuple[str, Side]:
        return self.info.module, self.side

    def get(self, x: Tensor, module: nn.Module, given: Tensor) -> Tensor:
        """The site's value. x: the tensor at this side; given: the module's input."""
        return x

    def put(self, x: Tensor, value: Tensor, module: nn.Module, given: Tensor) -> Tensor:
        """x with the site's value in place of what `get` gave."""
        return value


@dataclass(frozen=True)
class SharedTap(Tap):
    """A module's input that the model also uses elsewhere (the stream, added again after the MLP)."""

    shared = True

    def put(self, x: Tensor, value: Tensor, module: nn.Module, given: Tensor) -> Tensor:
        return x.copy_(value)


@dataclass(frozen=True)
class HeadsTap(Tap):
    """[b t h*dh] seen as [b t h dh]."""

    plain = False

    def get(self, x: Float[Tensor, "b t d"], module: nn.Module, given: Tensor) -> Float[Tensor, "b t h dh"]:
        return x.unflatten(-1, self.info.shape[2:])  # type: ignore[arg-type]

    def put(
        self, x: Float[Tensor, "b t d"], value: Float[Tensor, "b t h dh"], module: nn.Module, given: Tensor
    ) -> Float[Tensor, "b t d"]:
        return value.flatten(-2)


@dataclass(frozen=True)
class InterleavedTap(Tap):
    """One of q, k, v where a head's three stand side by side: [b t h*3*dh]."""

    index: int
    plain = False

    def get(self, x: Float[Tensor, "b t d"], module: nn.Module, given: Tensor) -> Float[Tensor, "b t h dh"]:
        return self._split(x)[self.index]

    def put(
        self, x: Float[Tensor, "b t d"], value: Float[Tensor, "b t h dh"], module: nn.Module, given: Tensor
    ) -> Float[Tensor, "b t d"]:
        parts = self._split(x)
        parts[self.index] = value
        return torch.stack(parts, dim=-2).flatten(-3)

    def _split(self, x: Tensor) -> list[Tensor]:
        heads, width = self.info.shape[2:]
        return list(x.unflatten(-1, (heads, 3, width)).unbind(-2))  # type: ignore[arg-type]


@dataclass(frozen=True)
class SliceTap(Tap):
    """Some columns, from `start` on, of one product that gives several things side by side; heads are told apart where the
    site has them."""

    start: int
    plain = False

    def get(self, x: Float[Tensor, "b t d"], module: nn.Module, given: Tensor) -> Tensor:
        return x[..., self._columns].unflatten(-1, self._shape)

    def put(self, x: Float[Tensor, "b t d"], value: Tensor, module: nn.Module, given: Tensor) -> Float[Tensor, "b t d"]:
        columns = self._columns
        return torch.cat([x[..., : columns.start], value.flatten(2), x[..., columns.stop :]], dim=-1)

    @property
    def _shape(self) -> tuple[int, ...]:
        return self.info.shape[2:]  # type: ignore[return-value]

    @property
    def _columns(self) -> slice:
        return slice(self.start, self.start + math.prod(self._shape))


@dataclass(frozen=True)
class ColumnsTap(Tap):
    """Some columns, in any order, of one product that gives several things; heads are told apart where the site has them."""

    columns: tuple[int, ...]
    plain = False

    def get(self, x: Float[Tensor, "b t d"], module: nn.Module, given: Tensor) -> Tensor:
        return x[..., list(self.columns)].unflatten(-1, self.info.shape[2:])  # type: ignore[arg-type]

    def put(self, x: Float[Tensor, "b t d"], value: Tensor, module: nn.Module, given: Tensor) -> Float[Tensor, "b t d"]:
        index = torch.tensor(self.columns, device=x.device)
        return x.index_copy(x.dim() - 1, index, value.flatten(2).to(x))


@dataclass(frozen=True)
class NormScaleTap(Tap):
    """What a LayerNorm (or, with centred=False, an RMSNorm) divides by: [b t 1]. Written, the norm is computed anew from it.

    offset: what is added to the weight before it multiplies.
    """

    eps: float
    centred: bool = True
    offset: float = 0.0
    plain = False

    def get(self, x: Tensor, module: nn.Module, given: Float[Tensor, "b t d"]) -> Float[Tensor, "b t 1"]:
        return (self._centre(given).pow(2).mean(-1, keepdim=True) + self.eps).sqrt()

    def put(
        self, x: Tensor, value: Float[Tensor, "b t 1"], module: nn.Module, given: Float[Tensor, "b t d"]
    ) -> Float[Tensor, "b t d"]:
        weight: Any = getattr(module, "weight", None)
        out = self._centre(given) / value
        out = out if weight is None else out * (weight + self.offset if self.offset else weight)
        bias = getattr(module, "bias", None)
        return out if bias is None else out + bias

    def _centre(self, given: Tensor) -> Tensor:
        return given - given.mean(-1, keepdim=True) if self.centred else given


@dataclass(frozen=True)
class TurnedTap(Tap):
    """Queries or keys inside the attention function: [b h t dh] there, [b t h dh] as a site."""

    plain = False

    def get(self, x: Float[Tensor, "b h t dh"], module: nn.Module, given: Tensor) -> Float[Tensor, "b t h dh"]:
        return x.transpose(1, 2)

    def put(
        self, x: Float[Tensor, "b h t dh"], value: Float[Tensor, "b t h dh"], module: nn.Module, given: Tensor
    ) -> Float[Tensor, "b h t dh"]:
        return value.transpose(1, 2)


class Parts(dict[int, Tensor]):
    """Some parts of a site, where the whole is not computed: part -> its value."""


Value = Tensor | Parts


@dataclass(frozen=True)
class ExpertsTap(Tap):
    """Every expert's output, [b t e d], or that of some experts alone."""

    def get(self, x: Value, module: nn.Module, given: Tensor) -> Any:
        return x

    def put(self, x: Value, value: Value, module: nn.Module, given: Tensor) -> Any:
        return value


def part_of(value: Value, kind: str, part: int) -> Tensor:
    """One head (or expert) of a site's value; a view."""
    return value[part] if isinstance(value, Parts) else value.select(PART_AXIS[kind], part)


def with_part(value: Value, kind: str, part: int, new: Tensor) -> Value:
    """A copy of the value with one head (or expert) replaced."""
    if isinstance(value, Parts):
        return Parts({**value, part: new})
    copy = value.clone()
    copy.select(PART_AXIS[kind], part).copy_(new)
    return copy
