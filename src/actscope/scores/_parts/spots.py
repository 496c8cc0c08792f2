"""Where latents fire, and which of those places to intervene at.

Letters: n rows of a store, m latents, p chosen places.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from actscope.core.codes import Codes
from actscope.core.dictionary import Dictionary
from actscope.core.inputs import TEXT
from actscope.core.store import Store

_EARLY = 96  # positions below this are taken first: they need the fewest tokens before them


@dataclass(frozen=True)
class Firing:
    """A dictionary's codes on every row of a store, in corpus order."""

    codes: Codes
    where: Int[Tensor, "n 2"]

    @staticmethod
    def of(dictionary: Dictionary, store: Store, *, size: int = 8192) -> "Firing":
        """Encode the whole store."""
        parts, where = [], []
        with torch.no_grad():
            for batch in store.batches(dictionary.reads, size):
                parts.append(dictionary.encode(batch.acts))
                where.append(batch.where)
        return Firing(Codes.cat(parts), torch.cat(where))


@dataclass(frozen=True)
class Spots:
    """Chosen places, `feature` by `feature` (its number in the list asked for)."""

    feature: Int[Tensor, " p"]
    row: Int[Tensor, " p"]  # of the store
    value: Float[Tensor, " p"]  # the latent's activation there


def choose(
    firing: Firing, latents: Sequence[int], documents: Iterable[int], *, most: int, allowed: Sequence[Tensor | None], seed: int
) -> Spots:
    """Up to `most` places a latent where it is active, from as many different documents as there are.

    Documents are taken in one seeded order for all latents, so that latents share documents and their prefixes; within
    a document, a random place. allowed: for each latent, Bool[n] rows to choose among, or None for all.
    """
    generator = torch.Generator().manual_seed(seed)
    inside = torch.isin(firing.where[:, 0], torch.tensor(sorted(documents)))
    rank_of = torch.randperm(int(firing.where[:, 0].max()) + 1, generator=generator)
    chance = torch.rand(len(firing.where), generator=generator)
    found = []
    for number, latent in enumerate(latents):
        value = firing.codes.column(latent)
        can: Bool[Tensor, " n"] = (value > 0) & inside
        mine = allowed[number]
        can = can if mine is None else can & mine
        rows = _spread(can.nonzero()[:, 0], firing.where, rank_of, chance)[:most]
        found.append((torch.full_like(rows, number), rows, value[rows]))
    feature, row, value = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Spots(feature, row, value)


def _spread(rows: Tensor, where: Tensor, rank_of: Tensor, chance: Tensor) -> Tensor:
    """`rows` with every document's first choice before any document's second, and so on."""
    late = (where[rows, 1] >= _EARLY).float()
    rows = rows[torch.argsort(late + chance[rows])]
    order = torch.argsort(rank_of[where[rows, 0]], stable=True)
    rows = rows[order]
    _, counts = torch.unique_consecutive(where[rows, 0], return_counts=True)
    if not len(counts):
        return rows
    starts = counts.cumsum(0) - counts
    turn = torch.arange(len(rows)) - torch.repeat_interleave(starts, counts)
    return rows[torch.argsort(turn, stable=True)]


def others_active(firing: Firing, spots: Spots, latents: Sequence[int], most: int, *, seed: int) -> Int[Tensor, "p k"]:
    """For every spot, up to `most` other latents active there, drawn without replacement; -1 where there are fewer."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.full((len(spots.row), most), -1)
    for number, (feature, row) in enumerate(zip(spots.feature.tolist(), spots.row.tolist(), strict=True)):
        start, end = firing.codes.indptr[row : row + 2].tolist()
        here = firing.codes.index[start:end]
        here = here[(here != latents[feature]) & (firing.codes.value[start:end] > 0)]
        here = here[torch.randperm(len(here), generator=generator)[:most]]
        chosen[number, : len(here)] = here
    return chosen


def sequences_of(store: Store, where: Int[Tensor, "p 2"], *, size: int = 256) -> tuple[list[Tensor], Int[Tensor, "p 2"]]:
    """The token ids of every sequence that holds one of these places, and for each place (sequence, index in it).

    Pieces of one document overlap in the special tokens they were given; a place lies in the piece whose text holds it.
    """
    documents = torch.unique(where[:, 0]).tolist()
    sequences: list[Tensor] = []
    spans: dict[int, list[tuple[int, int, int, int]]] = {number: [] for number in documents}
    for inputs, first in store.sequences(size, documents):
        assert inputs.ids is not None, "what was captured as text has token ids"
        mask = torch.ones_like(inputs.ids, dtype=torch.bool) if inputs.mask is None else inputs.mask
        roles = torch.full_like(inputs.ids, TEXT) if inputs.roles is None else inputs.roles
        for ids, real, role, (document, start) in zip(inputs.ids, mask, roles, first.tolist(), strict=True):
            own = (role[real] == TEXT).nonzero()[:, 0].tolist() or [0]
            spans[document].append((start + own[0], start + own[-1] + 1, start, len(sequences)))
            sequences.append(ids[real])
    places = torch.empty_like(where)
    for number, (document, position) in enumerate(where.tolist()):
        start, sequence = next(span[2:] for span in spans[document] if span[0] <= position < span[1])
        places[number] = torch.tensor([sequence, position - start])
    return sequences, places
