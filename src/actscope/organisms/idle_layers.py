"""A deep model some of whose layers idle, at tokens of a prompt, of a response, or of both; which, is known.

The task: a prompt of random symbols, a mark, and the response: the prompt's symbols in reverse order. A small causal
transformer of many blocks learns to give the response. The circumstance is planted, in two ways:

    1. A block works or idles, by a table drawn from the seed: always working, always idle, idle in the prompt only, idle in the
       response only. An idle block's update is `rest` times as long as a working one's.
    2. A working block's update is `growth` times as long as the stream it is added to, so the stream lengthens from block to
       block, as it does in large models with their norms before each block; there it is learned. growth=None: updates are as
       long as training makes them.

The first block always works: of one change no span can be said. Letters: b and n sequences, t tokens, l blocks, d width.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from actscope.core.dictionary import TrainableModule
from actscope.core.errors import UsageError
from actscope.core.progress import Progress, quiet
from actscope.core.site import Site
from actscope.organisms._block import Block
from actscope.subjects.module import ModuleSubject, wrap
from actscope.training.drawn import APART, Drawn
from actscope.training.fit import fit
from actscope.training.plan import Plan

__all__ = ["idle_layers"]

KINDS = {"always": (True, True), "prompt": (True, False), "response": (False, True)}  # idle in (prompt, response)
REST = 0.02  # length of an idle block's update, in working ones


@dataclass(frozen=True)
class World:
    """idle: which blocks idle at tokens of the prompt (row 0) and of the response (row 1). A sequence is `length` symbols, a
    mark, and the symbols again from the last to the first; the mark, id `symbols`, begins the response."""

    idle: Bool[Tensor, "2 l"]
    symbols: int
    length: int

    def sequences(self, n: int, *, seed: int) -> Int[Tensor, "n t"]:
        """Sequences drawn anew; the same seed gives the same ones."""
        prompt = torch.randint(self.symbols, (n, self.length), generator=torch.Generator().manual_seed(seed))
        return torch.cat([prompt, torch.full((n, 1), self.symbols), prompt.flip(1)], 1)

    def responds(self, ids: Int[Tensor, "b t"]) -> Bool[Tensor, "b t"]:
        """The tokens of the response."""
        return (ids == self.symbols).cumsum(1) > 0

    def idles(self, ids: Int[Tensor, "b t"]) -> Bool[Tensor, "b t l"]:
        """The truth: which blocks idle at which tokens."""
        return self.idle[self.responds(ids).long()]


class Idling(nn.Module):
    """A block that adds `share` of its update at each token."""

    def __init__(self, width: int, heads: int, growth: float | None):
        super().__init__()
        self.block, self.growth = Block(width, heads, causal=True), growth

    def forward(self, x: Float[Tensor, "b t d"], share: Float[Tensor, "b t 1"]) -> Float[Tensor, "b t d"]:
        update = self.block(x) - x
        if self.growth is not None:
            update = self.growth * x.norm(dim=-1, keepdim=True) * functional.normalize(update, dim=-1)
        return x + share * update


class Reverser(TrainableModule):
    """Trainable: mean cross-entropy of the response's symbols, in nats. forward: ids -> a score for each symbol to come."""

    rate = 3e-3

    def __init__(self, world: World, *, width: int, heads: int, growth: float | None, rest: float, seed: int):
        super().__init__()
        self.settings = {"width": width, "heads": heads, "growth": growth, "rest": rest, "seed": seed}
        self.world, self.rest = world, rest
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.symbol = nn.Embedding(world.symbols + 1, width)
            self.place = nn.Embedding(2 * world.length + 1, width)
            self.blocks = nn.ModuleList(Idling(width, heads, growth) for _ in range(world.idle.shape[1]))
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, world.symbols)

    def forward(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, "b t symbols"]:
        x = self.symbol(ids) + self.place.weight[: ids.shape[1]]
        share = torch.where(self.world.idles(ids), self.rest, 1.0)
        for number, block in enumerate(self.blocks):
            x = block(x, share[..., number, None])
        return self.head(self.norm(x))

    def objective(self, batch: Int[Tensor, "b t"], *, progress: float) -> dict[str, Tensor]:
        """{"loss": nats a symbol of the response}."""
        answered = self(batch[:, :-1])[:, self.world.length :]
        return {"loss": functional.cross_entropy(answered.flatten(0, 1), batch[:, self.world.length + 1 :].flatten())}


class Trained(NamedTuple):
    """What `idle_layers` gives: the subject, and the world that knows which layers idle."""

    subject: ModuleSubject
    world: World


def idle_layers(
    seed: int = 0,
    *,
    layers: int = 10,
    each: int = 2,
    width: int = 32,
    heads: int = 2,
    symbols: int = 8,
    length: int = 5,
    growth: float | None = 2.0,
    rest: float = REST,
    rows: int = 12_800,
    batch: int = 64,
    out: Path | str | None = None,
    progress: Progress = quiet,
) -> Trained:
    """A deep causal model that reverses a prompt with few of its layers, trained in seconds on one core.

    seed: of the table, the weights and the sequences. each: layers of every kind that idles (always, prompt, response), of
    `layers` in all. symbols, length: of the prompt. growth: length of a working layer's update, in lengths of the stream;
    None: as training makes it. rest: of an idle one's, in working ones. rows: sequences seen in training, each once. out: a
    folder for checkpoints and the result, from which the same call takes up its work.

    Sites: "embed", "layers.L.resid_pre", "layers.L.resid_post", "final_norm", "logits". Raises UsageError for sizes that cannot
    be; Interrupted, after saving, when asked to stop.
    """
    if not 0 < len(KINDS) * each < layers or min(symbols, length) < 2 or width % heads or rows < batch or rest < 0:
        raise UsageError(
            f"layers={layers}, each={each}, symbols={symbols}, length={length}, width={width}, heads={heads}, rows={rows}, "
            f"rest={rest}: expected more layers than {len(KINDS)} times each, from 2 symbols on in a prompt of 2 or more, a "
            f"width that heads divide, {batch} rows or more, and a rest from 0 on."
        )
    world = World(_table(layers, each, seed), symbols, length)
    model = Reverser(world, width=width, heads=heads, growth=growth, rest=rest, seed=seed)
    plan = Plan(rows=rows, batch=batch, warmup=0.1, decay=0.3, seed=seed)
    told = {"idle": world.idle.tolist(), "symbols": world.symbols, "length": world.length, "seed": seed}
    source = Drawn(lambda size, number: world.sequences(size, seed=number), told, first=APART)
    fit(model, source, plan, out=out, progress=progress)
    model.requires_grad_(False)
    sites: dict[str | Site, str] = {"embed": "symbol"}
    for layer in range(layers):
        sites |= {f"layers.{layer}.resid_pre": f"blocks.{layer}:in", f"layers.{layer}.resid_post": f"blocks.{layer}"}
    sites["final_norm"] = "norm"
    example, context = torch.full((1, 2), symbols), 2 * length + 1
    return Trained(wrap(model, sites=sites, name=f"idle-layers-{seed}", example=example, context=context), world)


def _table(layers: int, each: int, seed: int) -> Bool[Tensor, "2 l"]:
    idle = torch.zeros(2, layers, dtype=torch.bool)
    order = 1 + torch.randperm(layers - 1, generator=torch.Generator().manual_seed(seed))
    for kind, chosen in zip(KINDS.values(), order.split(each), strict=False):
        idle[:, chosen] = torch.tensor(kind)[:, None]
    return idle
