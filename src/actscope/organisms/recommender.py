"""A sequential recommender whose items' genres are known, and the world it is trained on.

The world: every item has one genre, some a second. A user wants one to three genres at a time; each item is of one of those,
drawn by how popular it is there. From item to item what is wanted drifts: a genre is dropped, another taken up. The
recommender is self-attentive (Kang & McAuley 2018, arXiv:1808.09781): causal blocks over the items so far end in a vector, and
the next item is scored by its product with the items' own embeddings. It sees items only; genres are the truth to judge by.

Letters: b users in a batch, u users, t items of a sequence, v items, g genres, d width.
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
from actscope.corpora.texts import Texts, texts
from actscope.organisms._block import Block
from actscope.subjects.module import ModuleSubject, wrap
from actscope.training.drawn import APART, Drawn
from actscope.training.fit import fit
from actscope.training.plan import Plan

__all__ = ["recommender"]

MOST_WANTED = 3  # genres at a time
DRIFT = 0.06  # how often what a user wants changes, an item
SECOND = 0.25  # share of the items that have a second genre
LENGTH = 32  # items of a sequence
VECTOR = Site("final_norm")  # what the next item is scored from


class Users(NamedTuple):
    """Sequences of items, and what their users wanted as each item came."""

    items: Int[Tensor, "u t"]
    wants: Bool[Tensor, "u t g"]

    def corpus(self, name: str) -> Texts:
        """A document a user: "<17><3>"."""
        return texts(("".join(f"<{item}>" for item in row) for row in self.items.tolist()), name=name)


@dataclass(frozen=True)
class World:
    """Items and their genres. `chance`: of each item, where a user is about to take one of that genre."""

    genres: Bool[Tensor, "v g"]
    chance: Float[Tensor, "g v"]

    def users(self, count: int, *, seed: int, length: int = LENGTH) -> Users:
        """Users drawn anew; the same seed gives the same ones."""
        draw = torch.Generator().manual_seed(seed)
        kinds = self.genres.shape[1]
        first = torch.randint(1, MOST_WANTED + 1, (count, 1), generator=draw)
        wants = torch.rand(count, kinds, generator=draw).argsort(1).argsort(1) < first
        items, wanted = [], []
        for _ in range(length):
            wants = _drifted(wants, draw)
            kind = torch.multinomial(wants.float(), 1, generator=draw)[:, 0]
            items.append(torch.multinomial(self.chance[kind], 1, generator=draw)[:, 0])
            wanted.append(wants)
        return Users(torch.stack(items, 1), torch.stack(wanted, 1))


class Recommender(TrainableModule):
    """Trainable: mean cross-entropy of the next item, in nats. forward: items -> a score for each item to come next."""

    rate = 4e-3

    def __init__(self, *, items: int, width: int, layers: int, heads: int, length: int = LENGTH, seed: int = 0):
        super().__init__()
        self.settings = {"items": items, "width": width, "layers": layers, "heads": heads, "length": length, "seed": seed}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.item = nn.Embedding(items, width)
            self.place = nn.Embedding(length, width)
            self.blocks = nn.ModuleList(Block(width, heads, causal=True) for _ in range(layers))
            self.norm = nn.LayerNorm(width)
            for table in (self.item, self.place):
                nn.init.normal_(table.weight, std=0.3)

    def forward(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        x = self.item(ids) + self.place.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.item.weight.T

    def objective(self, batch: Int[Tensor, "b t"], *, progress: float) -> dict[str, Tensor]:
        """{"loss": nats an item}."""
        return {"loss": functional.cross_entropy(self(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())}


class Trained(NamedTuple):
    """What `recommender` gives: the subject to read at `VECTOR` and "logits", and the world that knows the truth."""

    subject: ModuleSubject
    world: World


def recommender(
    seed: int = 0,
    *,
    items: int = 400,
    genres: int = 20,
    width: int = 48,
    layers: int = 2,
    heads: int = 2,
    users: int = 40_000,
    batch: int = 64,
    out: Path | str | None = None,
    progress: Progress = quiet,
) -> Trained:
    """A self-attentive recommender (arXiv:1808.09781) trained on synthetic users, with the items' true genres.

    seed: of the world, the weights and the users. users: seen in training, each once; half a minute on one core. out: a folder
    for checkpoints and the result, from which the same call takes up its work. Raises UsageError for a world that cannot be;
    Interrupted, after saving, when asked to stop.
    """
    if items < genres or genres <= MOST_WANTED or users < batch:
        raise UsageError(
            f"items={items}, genres={genres}, users={users}: expected an item for each genre, more than {MOST_WANTED} genres, "
            f"and a batch of {batch} users."
        )
    world = _world(seed, items, genres)
    model = Recommender(items=items, width=width, layers=layers, heads=heads, seed=seed)
    plan = Plan(rows=users, batch=batch, warmup=0.05, decay=0.3, seed=seed)
    told = {"items": len(world.genres), "genres": world.genres.shape[1], "seed": seed}
    source = Drawn(lambda size, number: world.users(size, seed=number).items, told, first=APART)
    fit(model, source, plan, out=out, progress=progress)
    model.requires_grad_(False)
    example = torch.zeros(1, 2, dtype=torch.long)
    sites: dict[str | Site, str] = {"embed": "item", VECTOR: "norm"}
    sites |= {f"layers.{layer}.resid_post": f"blocks.{layer}" for layer in range(layers)}
    return Trained(wrap(model, sites=sites, name=f"recommender-{seed}", example=example, context=LENGTH), world)


def _world(seed: int, items: int, genres: int) -> World:
    draw = torch.Generator().manual_seed(seed)
    each = torch.arange(items) % genres
    has = functional.one_hot(each, genres).bool()
    second = (each + torch.randint(1, genres, (items,), generator=draw)) % genres
    two = torch.rand(items, generator=draw) < SECOND
    has = has | (functional.one_hot(second, genres).bool() & two[:, None])
    liked = 1 / (1 + torch.rand(items, generator=draw) * 4)  # how popular: from 1/5 to 1
    chance = has.T.float() * liked / has.sum(1)
    return World(has, chance / chance.sum(1, keepdim=True))


def _drifted(wants: Bool[Tensor, "u g"], draw: torch.Generator) -> Bool[Tensor, "u g"]:
    """One to three genres as before, or one more, or one fewer, or one in the place of another."""
    count = wants.sum(1)
    rank = torch.rand(wants.shape, generator=draw)
    move = torch.rand(len(wants), generator=draw) < DRIFT
    kind = torch.randint(3, (len(wants),), generator=draw)  # more, fewer, another
    more = move & (kind != 1) & ((count < MOST_WANTED) | (kind == 2))
    fewer = move & (kind != 0) & ((count > 1) | (kind == 2))
    new = torch.where(wants, 2.0, rank).argmin(1)
    old = torch.where(wants, rank, 2.0).argmin(1)
    each = torch.arange(len(wants))
    wants = wants.clone()
    wants[each[fewer], old[fewer]] = False
    wants[each[more], new[more]] = True
    return wants
