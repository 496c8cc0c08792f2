"""Many small networks with one hidden layer of ReLU, trained side by side, and the landscape of the loss around them.

A network is M networks of one width: weights with M in front. Nothing of one reaches another.
Letters: M networks, n pictures, d pixels, h hidden units, k classes.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from actscope.core.errors import NotFinite
from actscope.scores._parts.assignment import assignment


class Nets(NamedTuple):
    """M networks."""

    w: Float[Tensor, "M h d"]
    b: Float[Tensor, "M h"]
    v: Float[Tensor, "M k h"]
    c: Float[Tensor, "M k"]

    def logits(self, x: Float[Tensor, "*M n d"]) -> Float[Tensor, "M n k"]:
        """Of the same pictures for all, or of each network's own."""
        hidden = (x @ self.w.mT + self.b[:, None]).relu()
        return hidden @ self.v.mT + self.c[:, None]

    def loss(self, x: Float[Tensor, "*M n d"], y: Int[Tensor, "*M n"]) -> Float[Tensor, " M"]:
        """Mean cross-entropy of each, in nats."""
        logits = self.logits(x)
        each = functional.cross_entropy(logits.flatten(0, 1), y.expand(logits.shape[:2]).flatten(), reduction="none")
        return each.view(logits.shape[:2]).mean(1)

    @torch.no_grad()
    def accuracy(self, x: Float[Tensor, "n d"], y: Int[Tensor, " n"]) -> Float[Tensor, " M"]:
        return (self.logits(x).argmax(-1) == y).float().mean(1)

    def some(self, index: Tensor) -> "Nets":
        return Nets(*(part[index] for part in self))


def of(parts: list[Tensor]) -> Nets:
    return Nets(*parts)


def fresh(m: int, width: int, pixels: int, classes: int, *, seed: int) -> Nets:
    """m networks with torch's usual start: evenly within one over the root of what a unit reads."""
    draw = torch.Generator().manual_seed(seed)
    shapes = ((width, pixels), (width,), (classes, width), (classes,))
    reach = (pixels**-0.5, pixels**-0.5, width**-0.5, width**-0.5)
    return Nets(*(far * (2 * torch.rand(m, *shape, generator=draw) - 1) for shape, far in zip(shapes, reach, strict=True)))


class Trained(NamedTuple):
    """last: after the last step. averaged: the mean of the weights after each of the last epochs."""

    last: Nets
    averaged: Nets


def trained(
    nets: Nets, x: Float[Tensor, "n d"], y: Int[Tensor, " n"], *, rate: Float[Tensor, " M"], epochs: int, batch: int,
    kept: int = 5, momentum: float = 0.9, decay: float = 5e-4, seed: int = 0,
) -> Trained:  # fmt: skip
    """Stochastic gradient descent with momentum, a rate for each network and an order of its own; the rate stays as it is, so
    that the noise of the last step is that of the rate. kept: epochs averaged. Raises NotFinite, with the rates that diverged.
    """
    draw = torch.Generator().manual_seed(seed)
    parts = [part.clone().requires_grad_(True) for part in nets]
    speed = [torch.zeros_like(part) for part in parts]
    total = [torch.zeros_like(part) for part in parts]
    for epoch in range(epochs):
        orders = torch.rand(len(rate), len(x), generator=draw).argsort(1)
        for index in orders.split(batch, dim=1):
            gradient = torch.autograd.grad(of(parts).loss(x[index], y[index]).sum(), parts)
            with torch.no_grad():
                for part, moving, slope in zip(parts, speed, gradient, strict=True):
                    moving.mul_(momentum).add_(slope).add_(part, alpha=decay)
                    part.sub_(moving * rate.view(-1, *[1] * (part.dim() - 1)))
        if epoch >= epochs - kept:
            total = [add + part.detach() for add, part in zip(total, parts, strict=True)]
    last = of([part.detach() for part in parts])
    lost = ~torch.stack([part.isfinite().flatten(1).all(1) for part in last]).all(0)
    if lost.any():
        raise NotFinite(f"Networks diverged at rates {sorted(set(rate[lost].tolist()))}; give lower ones.")
    return Trained(last, of([part / min(kept, epochs) for part in total]))


def hessian(
    nets: Nets, x: Float[Tensor, "n d"], y: Int[Tensor, " n"], *, probes: int, steps: int, seed: int
) -> tuple[Float[Tensor, " M"], Float[Tensor, " M"]]:
    """(trace, largest eigenvalue by size) of the Hessian of each network's loss: the mean of z^T H z over so many vectors of
    random signs (Hutchinson 1990), and so many steps of the power method."""
    parts = [part.clone().requires_grad_(True) for part in nets]
    slopes = torch.autograd.grad(of(parts).loss(x, y).sum(), parts, create_graph=True)
    draw = torch.Generator().manual_seed(seed)

    def product(vector: list[Tensor]) -> list[Tensor]:
        return list(torch.autograd.grad(slopes, parts, vector, retain_graph=True))

    def dot(one: list[Tensor], two: list[Tensor]) -> Float[Tensor, " M"]:
        return torch.stack([(a * b).flatten(1).sum(1) for a, b in zip(one, two, strict=True)]).sum(0)

    trace = torch.zeros(len(nets.w))
    for _ in range(probes):
        sign = [torch.randint(0, 2, part.shape, generator=draw).float() * 2 - 1 for part in parts]
        trace += dot(sign, product(sign)) / probes
    vector, value = [torch.randn(part.shape, generator=draw) for part in parts], trace
    for _ in range(steps):
        length = dot(vector, vector).sqrt().clamp_min(1e-30)
        vector = [part / length.view(-1, *[1] * (part.dim() - 1)) for part in vector]
        after = product(vector)
        value, vector = dot(vector, after), after
    return trace, value


def curve(
    a: Nets,
    b: Nets,
    x: Float[Tensor, "n d"],
    y: Int[Tensor, " n"],
    *,
    steps: int,
    batch: int = 100,
    rate: float = 0.01,
    seed: int,
) -> Nets:
    """The middle of a quadratic Bezier curve from each a to its b along which the loss is low: Adam on the loss at a random
    place of the curve (Garipov et al. 2018, arXiv:1802.10026)."""
    draw = torch.Generator().manual_seed(seed)
    middle = [((one + two) / 2).requires_grad_(True) for one, two in zip(a, b, strict=True)]
    adam = torch.optim.Adam(middle, rate)
    for step in range(steps):
        for group in adam.param_groups:
            group["lr"] = rate * min(1.0, 2 * (1 - step / steps))
        index = torch.randint(len(x), (len(a.w), batch), generator=draw)
        place = torch.rand(len(a.w), generator=draw)
        adam.zero_grad()
        along(a, of(middle), b, place).loss(x[index], y[index]).sum().backward()
        adam.step()
    return of([part.detach() for part in middle])


def along(a: Nets, middle: Nets, b: Nets, place: Float[Tensor, " M"]) -> Nets:
    """The networks at a place of each curve, from 0 to 1."""
    parts = []
    for one, mid, two in zip(a, middle, b, strict=True):
        t = place.view(-1, *[1] * (one.dim() - 1))
        parts.append((1 - t) ** 2 * one + 2 * t * (1 - t) * mid + t**2 * two)
    return of(parts)


@torch.no_grad()
def connectivity(
    a: Nets, middle: Nets, b: Nets, x: Float[Tensor, "n d"], y: Int[Tensor, " n"], places: int = 11
) -> Float[Tensor, " M"]:
    """The mean loss of the ends less the loss at the place of the curve that is farthest from it, in nats: below 0 there is a
    barrier, above 0 the ends were trained too little (Yang et al. 2021, arXiv:2107.11228)."""
    losses = torch.stack([along(a, middle, b, t.expand(len(a.w))).loss(x, y) for t in torch.linspace(0, 1, places)])
    off = (losses[0] + losses[-1]) / 2 - losses
    return off.gather(0, off.abs().argmax(0, keepdim=True))[0]


def cka(one: Float[Tensor, "M n k"], two: Float[Tensor, "M n k"]) -> Float[Tensor, " M"]:
    """Linear centred kernel alignment of two networks' outputs (Kornblith et al. 2019, arXiv:1905.00414)."""
    one, two = one - one.mean(1, keepdim=True), two - two.mean(1, keepdim=True)

    def shared(a: Tensor, b: Tensor) -> Float[Tensor, " M"]:
        return (a.mT @ b).square().sum((1, 2))

    return shared(one, two) / (shared(one, one) * shared(two, two)).sqrt().clamp_min(1e-30)


def aligned(nets: Nets, to: Nets) -> Nets:
    """Each network with its hidden units in the order that lies nearest to another's weights; what it says stays the same
    (Ainsworth et al. 2022, arXiv:2209.04836)."""

    def units(one: Nets) -> Float[Tensor, "M h f"]:
        return torch.cat([one.w, one.b[..., None], one.v.mT], 2)

    return ordered(nets, torch.stack([assignment(value) for value in units(to) @ units(nets).mT]))


def ordered(nets: Nets, order: Int[Tensor, "M h"]) -> Nets:
    """The same networks with their hidden units in another order."""
    return Nets(
        nets.w.gather(1, order[..., None].expand_as(nets.w)),
        nets.b.gather(1, order),
        nets.v.gather(2, order[:, None].expand_as(nets.v)),
        nets.c,
    )


def averaged(replicas: list[Nets]) -> Nets:
    """The mean of weights."""
    return of([torch.stack(parts).mean(0) for parts in zip(*replicas, strict=True)])


def merged(replicas: list[Nets], rounds: int = 2) -> Nets:
    """The mean of weights of networks whose units were put in one order: all by the first, then each in turn by the mean of
    the others, so many times (MergeMany of Ainsworth et al. 2022)."""
    found = [replicas[0], *(aligned(one, replicas[0]) for one in replicas[1:])]
    for place in list(range(len(found))) * rounds:
        found[place] = aligned(found[place], averaged(found[:place] + found[place + 1 :]))
    return averaged(found)
