"""What to put at a site, given what is there. Pure: no state between calls. Applied in the order given.

Primitives: Add Replace Scale Zero Mean Freeze Largest Copy, At (any of them, at some positions only), and Splice, which stands
for the interventions that put a dictionary's reconstruction into the run.
Letters: b batch, t tokens, d width of a site.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from actscope.core.codes import Codes
from actscope.core.dictionary import Dictionary
from actscope.core.inputs import Inputs
from actscope.core.site import Port, Site


class Context(NamedTuple):
    """What an intervention may know besides the value at its site."""

    seen: Mapping[Site, Tensor]  # the values at its `reads`
    inputs: Inputs
    positions: Tensor  # Int[b t]
    mask: Tensor  # Bool[b t]: real tokens; at one expert's output, those it saw
    step: int = 0  # decoding step; 0 while the prompt runs


@runtime_checkable
class Intervention(Protocol):
    @property
    def site(self) -> Site: ...
    @property
    def reads(self) -> tuple[Site, ...]: ...
    def __call__(self, x: Tensor, context: Context) -> Tensor: ...


@dataclass(frozen=True)
class Add:
    """x + scale * value. `value` broadcasts against x: [d] everywhere, [b 1 d] per row."""

    site: Site
    value: Tensor
    scale: float = 1.0
    reads: tuple[Site, ...] = ()

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        return x + self.scale * self.value.to(x)


@dataclass(frozen=True)
class Replace:
    """`value` in place of x; broadcasts."""

    site: Site
    value: Tensor
    reads: tuple[Site, ...] = ()

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        return self.value.to(x).expand_as(x)


@dataclass(frozen=True)
class Scale:
    """factor * x."""

    site: Site
    factor: float
    reads: tuple[Site, ...] = ()

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        return x * self.factor


@dataclass(frozen=True)
class Zero:
    """0 in place of x."""

    site: Site
    reads: tuple[Site, ...] = ()

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        return torch.zeros_like(x)


@dataclass(frozen=True)
class Mean:
    """The mean over this run's real tokens in place of x, for sites with one row per token."""

    site: Site
    reads: tuple[Site, ...] = ()

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        return x[context.mask].mean(0).expand_as(x)


@dataclass(frozen=True)
class Freeze:
    """x as a constant: gradients stop here."""

    site: Site
    reads: tuple[Site, ...] = ()

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        return x.detach()


@dataclass(frozen=True)
class Largest:
    """The `k` largest numbers of each row as they are, 0 in place of the others. From the row's width on, k leaves x alone."""

    site: Site
    k: int
    reads: tuple[Site, ...] = ()

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        if self.k >= x.shape[-1]:
            return x
        value, index = x.topk(self.k, dim=-1)
        return torch.zeros_like(x).scatter(-1, index, value)


@dataclass(frozen=True)
class Copy:
    """What stands at `source`, of the same shape, in place of x. From a layer's beginning to its end, the layer is skipped."""

    site: Site
    source: Site

    @property
    def reads(self) -> tuple[Site, ...]:
        return (self.source,)

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        return context.seen[self.source].to(x)


@dataclass(frozen=True)
class At:
    """Another intervention, at the positions where `where` (Bool[b t]) holds; x stays as it is elsewhere."""

    inner: Intervention
    where: Tensor

    @property
    def site(self) -> Site:
        return self.inner.site

    @property
    def reads(self) -> tuple[Site, ...]:
        return self.inner.reads

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        where = self.where.reshape(*self.where.shape, *[1] * (x.dim() - 2))
        return torch.where(where.to(x.device), self.inner(x, context), x)


@dataclass(frozen=True)
class Splice:
    """Put a dictionary's reconstruction where it writes: iterate to get one intervention per write site.

    keep_error: add back what the dictionary misses, so that nothing changes unless `without` latents are set to zero.
    Padding positions are left as they are.
    """

    dictionary: Dictionary
    keep_error: bool = True
    without: tuple[int, ...] = ()

    def __iter__(self) -> Iterator[Intervention]:
        return iter([_SpliceAt(self, port.site) for port in self.dictionary.writes])


@dataclass(frozen=True)
class _SpliceAt:
    splice: Splice
    site: Site

    @property
    def reads(self) -> tuple[Site, ...]:
        return tuple(port.site for port in self.splice.dictionary.needed(self._port) if port.site != self.site)

    @property
    def _port(self) -> Port:
        return next(port for port in self.splice.dictionary.writes if port.site == self.site)

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        dictionary = self.splice.dictionary
        port, here = self._port, x[context.mask]
        given = {each: (x if each.site == self.site else context.seen[each.site]) for each in dictionary.needed(port)}
        own = next(itertools.chain(dictionary.parameters(), dictionary.buffers()), x)  # the dictionary may stand elsewhere
        rows = {each: value[context.mask].flatten(1).to(own) for each, value in given.items()}
        for each, width in dictionary.reads.items():
            if each not in rows:  # what stands there makes no difference here
                rows[each] = own.new_zeros(len(here), width)
        before, after = self._decoded(rows)
        new = after[port].reshape(here.shape).to(x)
        if self.splice.keep_error:
            new = here + new - before[port].reshape(here.shape).to(x)
        return x.clone().masked_scatter(context.mask.reshape(*context.mask.shape, *[1] * (x.dim() - 2)).expand_as(x), new)

    def _decoded(self, rows: Mapping) -> tuple[dict, dict]:
        dictionary = self.splice.dictionary
        codes: Codes = dictionary.encode(rows)
        before = dictionary.decode(codes, rows)
        if not self.splice.without:
            return before, before
        for latent in self.splice.without:
            codes = codes.without(latent)
        return before, dictionary.decode(codes, rows)


def flatten(write: Iterable) -> list[Intervention]:
    """Interventions in order, with every Splice replaced by the interventions it stands for."""
    flat: list[Intervention] = []
    for item in write:
        flat.extend(item if isinstance(item, Splice) else [item])
    return flat
