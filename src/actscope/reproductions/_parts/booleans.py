"""A model of two MLPs that compute known sparse booleans: conjunctions of two features, then of two conjunctions.

Features stand in random directions. The first MLP turns the directions of features into those of conjunctions, the second
these into others. Both are trained, with more conjunctions than the space has dimensions, so that no neuron need be one.
Letters: n rows, f features, p and q conjunctions of the first and second level, d width, h neurons.
"""

import itertools
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from actscope.reproductions._parts.planted import directions

SIZES = {"f": 48, "p": 48, "q": 32, "d": 40, "h": 64}
OFTEN = (1.5, 1.0, 0.5)  # features, and conjunctions of both levels, that are made to hold in a row, on average


@dataclass(frozen=True)
class Level:
    """One MLP: `parents` are the two causes of each conjunction it computes."""

    parents: Int[Tensor, "c 2"]
    reads: Float[Tensor, "before d"]  # the directions of the causes it reads
    writes: Float[Tensor, "c d"]  # those of the conjunctions it writes
    first: Float[Tensor, "h d"]
    bias: Float[Tensor, " h"]
    second: Float[Tensor, "d h"]
    offset: Float[Tensor, " d"]

    def neurons(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n h"]:
        return torch.relu(functional.linear(x, self.first, self.bias))

    def __call__(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return functional.linear(self.neurons(x), self.second, self.offset)


@dataclass(frozen=True)
class Rows:
    """What stands before, between and behind the two MLPs, and what holds there."""

    x: tuple[Float[Tensor, "n d"], Float[Tensor, "n d"], Float[Tensor, "n d"]]
    holds: tuple[Bool[Tensor, "n f"], Bool[Tensor, "n p"], Bool[Tensor, "n q"]]


@dataclass(frozen=True)
class Booleans:
    """The model. rows: n new ones of a seed."""

    levels: tuple[Level, Level]

    @torch.no_grad()
    def rows(self, n: int, *, seed: int) -> Rows:
        one, two = self.levels
        holds = _drawn(n, len(one.reads), one.parents, two.parents, seed)
        x = holds[0].float() @ one.reads
        between = one(x)
        return Rows((x, between, two(between)), holds)


def booleans(*, seed: int, steps: int = 2500, size: int = 512, rate: float = 5e-3) -> Booleans:
    """The model trained to give every conjunction's direction, by Adam with a rate that falls to 0."""
    f, p, q, d, h = (SIZES[name] for name in "fpqdh")
    draw = torch.Generator().manual_seed(seed)
    parents = _pairs(p, f, draw), _pairs(q, p, draw)
    spaces = [directions(count, d, seed=10 * seed + number) for number, count in enumerate((f, p, q))]
    holds = [part.float() for part in _drawn(60_000, f, *parents, seed + 1_000_000)]
    levels: list[Level] = []
    for number in (0, 1):
        read, written = spaces[number : number + 2]
        x = levels[0](holds[0] @ spaces[0]) if levels else holds[0] @ spaces[0]
        weights = _trained(x, holds[number + 1] @ written, h, steps, size, rate, draw)
        levels.append(Level(parents[number], read, written, *weights))
    return Booleans((levels[0], levels[1]))


def _pairs(count: int, of: int, draw: torch.Generator) -> Int[Tensor, "count 2"]:
    """So many different pairs."""
    every = torch.tensor(list(itertools.combinations(range(of), 2)))
    return every[torch.randperm(len(every), generator=draw)[:count]]


def _drawn(
    n: int, f: int, first: Int[Tensor, "p 2"], second: Int[Tensor, "q 2"], seed: int
) -> tuple[Bool[Tensor, "n f"], Bool[Tensor, "n p"], Bool[Tensor, "n q"]]:
    """What holds in each row. A few causes of every level are drawn; all that they are made of holds too."""
    draw = torch.Generator().manual_seed(seed)
    x, a, b = (
        torch.rand(n, count, generator=draw) < often / count
        for count, often in zip((f, len(first), len(second)), OFTEN, strict=True)
    )
    a = a | _needed(b, second, len(first))
    x = x | _needed(a, first, f)
    a = x[:, first].all(2)
    return x, a, a[:, second].all(2)


def _needed(holds: Bool[Tensor, "n c"], parents: Int[Tensor, "c 2"], before: int) -> Bool[Tensor, "n before"]:
    made_of = functional.one_hot(parents, before).sum(1).float()
    return (holds.float() @ made_of) > 0


def _trained(
    x: Float[Tensor, "n d"], y: Float[Tensor, "n d"], h: int, steps: int, size: int, rate: float, draw: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(first, bias, second, offset) of least squared error."""
    d = x.shape[1]
    first, second = torch.randn(h, d, generator=draw) / d**0.5, torch.randn(d, h, generator=draw) / h**0.5
    weights = [first, torch.zeros(h), second, torch.zeros(d)]
    for one in weights:
        one.requires_grad_(True)
    adam = torch.optim.Adam(weights, rate)
    for step in range(steps):
        adam.param_groups[0]["lr"] = rate * min(1.0, (steps - step) / (0.3 * steps))
        some = torch.randint(len(x), (size,), generator=draw)
        with torch.enable_grad():
            hidden = torch.relu(functional.linear(x[some], weights[0], weights[1]))
            error = functional.linear(hidden, weights[2], weights[3]) - y[some]
            adam.zero_grad()
            error.square().sum(1).mean().backward()
        adam.step()
    return tuple(one.detach() for one in weights)  # type: ignore[return-value]
