"""Rows whose directions are known: each is a sum of few of many unit vectors. And such rows as a store.

Letters: n rows, d width, t true directions.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from actscope.core.site import Port
from actscope.core.store import Store
from actscope.stores._parts.manifest import measured
from actscope.stores._parts.pieces import Piece, Planned
from actscope.stores._parts.running import sequences
from actscope.stores.memory import MemoryStore

PORT = Port.parse("layers.0.mlp_in")
A_DOCUMENT = 100  # rows


@dataclass(frozen=True)
class Planted:
    """Rows and what they are made of: rows = (present * strength) @ directions."""

    rows: Float[Tensor, "n d"]
    present: Bool[Tensor, "n t"]
    directions: Float[Tensor, "t d"]


def directions(t: int, d: int, *, seed: int) -> Float[Tensor, "t d"]:
    """t random unit vectors."""
    return functional.normalize(torch.randn(t, d, generator=torch.Generator().manual_seed(seed)), dim=1)


def planted(
    n: int, truth: Float[Tensor, "t d"], *, least: int, most: int, seed: int, strength: tuple[float, float] = (0.5, 1.5)
) -> Planted:
    """n rows; of each, the number of directions present is uniform from `least` to `most`, which ones is drawn evenly, and
    each has a strength drawn evenly between the two given."""
    draw = torch.Generator().manual_seed(seed)
    count = torch.randint(least, most + 1, (n, 1), generator=draw)
    chance = torch.rand(n, len(truth), generator=draw)
    least_chance = chance.sort(dim=1).values.gather(1, count - 1)
    present = chance <= least_chance
    low, high = strength
    strengths = low + (high - low) * torch.rand(n, len(truth), generator=draw)
    return Planted((present * strengths) @ truth, present, truth)


def store_of(acts: Mapping[Port, Tensor], *, name: str, grads: Mapping[Port, Tensor] | None = None) -> Store:
    """Rows (Float[n d] of every port) as a store of documents of 100 rows. `name` stands where a subject's fingerprint does.
    grads: what stands beside them, where a method needs it."""
    n = len(next(iter(acts.values())))
    documents = torch.arange(n) // A_DOCUMENT
    where: Int[Tensor, "n 2"] = torch.stack([documents, torch.arange(n) % A_DOCUMENT], dim=1)
    pieces = tuple(_piece(number, len(part)) for number, part in enumerate(documents.split(A_DOCUMENT)))
    unit = Planned(0, tuple(f"{name}:{number}" for number in range(len(pieces))), pieces)
    rows = {f"acts.{port}": x for port, x in acts.items()}
    rows |= {f"grads.{port}": x for port, x in (grads or {}).items()}
    words = {"where": where, "token": torch.zeros(n, dtype=torch.int32)}
    tensors = {**rows, **words, **sequences(unit)}
    settings: dict[str, object] = {"ports": [[str(port), x.shape[1]] for port, x in acts.items()], "subjects": {"": name}}
    settings |= {"start": 0, **({"grads": True} if grads else {})}
    return MemoryStore(settings, [(measured(tensors, 0, unit.next), tensors)])


def _piece(number: int, rows: int) -> Piece:
    """A document of so many tokens that say nothing."""
    nothing = torch.zeros(rows, dtype=torch.long)
    return Piece(number, 0, nothing, nothing, torch.ones(rows, dtype=torch.bool))
