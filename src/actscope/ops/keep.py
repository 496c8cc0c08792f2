"""The n largest keys of every latent over a stream of entries, at most so many of one document where that is asked for.

Whatever the order and the pieces in which entries come, the same remain: one that has to go is never needed again.
Letters: e entries, m latents, n kept.
"""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from actscope.ops import _native

_ROWS = 4096  # latents that are sorted at a time where there is no kernel


class Kept(NamedTuple):
    """What stands so far."""

    key: Int[Tensor, "m n"]  # -1 where nothing stands yet
    least: Int[Tensor, " m"]  # the smallest of each once there are n; -1 before
    document: Int[Tensor, "m n"] | None = None  # of each, where their number a document is limited

    @staticmethod
    def none(m: int, n: int, *, documents: bool = False) -> "Kept":
        """The start."""
        key = torch.full((m, n), -1)
        return Kept(key, torch.full((m,), -1), key.clone() if documents else None)


def fast(
    kept: Kept, latent: Int[Tensor, " e"], key: Int[Tensor, " e"], document: Int[Tensor, " e"] | None = None, most: int = 0
) -> Int[Tensor, " e"]:
    """Take entries in, in place: where each stands among its latent's n afterwards, -1 where it does not. Keys must differ and
    not be negative. document, most: of each entry, and how many of one document may stand."""
    assert (document is None) == (kept.document is None)
    if _native.wanted(latent, key, document, *kept):
        slot = torch.empty_like(latent)
        given = (latent, key, document, len(latent), *kept.key.shape, most, kept.key, kept.least, kept.document, slot)
        _native.function("keep")(*given)
        return slot
    slot = torch.full_like(latent, -1)
    new = (key > kept.least[latent]).nonzero()[:, 0]
    if document is not None:  # of one document no more than `most` of these can stay
        new = _largest(new, key, most, document, latent)
    new = _largest(new, key, kept.key.shape[1], latent)
    touched, line, counts = latent[new].unique_consecutive(return_inverse=True, return_counts=True)
    place = torch.arange(len(new)) - (counts.cumsum(0) - counts)[line]
    for start in range(0, len(touched), _ROWS):
        here = (line >= start) & (line < start + _ROWS)
        some = None if document is None else document[new[here]]
        into = _merge(kept, touched[start : start + _ROWS], line[here] - start, place[here], key[new[here]], some, most)
        slot[new[here]] = into
    return slot


def reference(
    kept: Kept, latent: Int[Tensor, " e"], key: Int[Tensor, " e"], document: Int[Tensor, " e"] | None = None, most: int = 0
) -> Int[Tensor, " e"]:
    """The same one entry at a time."""
    slot = torch.full_like(latent, -1)
    for number, (j, mine) in enumerate(zip(latent.tolist(), key.tolist(), strict=True)):
        row, among = kept.key[j], torch.ones(kept.key.shape[1], dtype=torch.bool)
        if document is not None and kept.document is not None:
            same = (kept.document[j] == document[number]) & (row >= 0)
            among = same if int(same.sum()) >= most else among
        place = int(torch.where(among, row, torch.iinfo(torch.long).max).argmin())
        if row[place] > mine:
            continue
        row[place], slot[number] = mine, place
        if document is not None and kept.document is not None:
            kept.document[j, place] = document[number]
        kept.least[j] = row.min()
    standing = kept.key[latent, slot.clamp(min=0)] == key
    return torch.where(standing, slot, -1)


def _largest(which: Tensor, key: Tensor, most: int, *groups: Tensor) -> Tensor:
    """Of the entries `which`, the `most` with the largest keys in each group, ordered by group; the last of `groups` leads."""
    which = which[key[which].argsort(descending=True)]
    for group in groups:
        which = which[group[which].argsort(stable=True)]
    first = torch.ones(len(which), dtype=torch.bool)
    if len(which):
        first[1:] = torch.stack([group[which].diff() != 0 for group in groups]).any(0)
    number = torch.arange(len(which))
    return which[number - torch.where(first, number, 0).cummax(0).values < most] if len(which) else which


def _merge(
    kept: Kept, latents: Tensor, line: Tensor, place: Tensor, key: Tensor, document: Tensor | None, most: int
) -> Int[Tensor, " e"]:
    """Put entries into the rows of `latents`, one (line, place) each; where each then stands, -1 where it does not."""
    held, n = kept.key[latents], kept.key.shape[1]
    wide = int(place.max()) + 1
    joined = torch.cat([held, torch.full((len(latents), wide), -1)], 1)
    joined[line, n + place] = key
    order = joined.argsort(dim=1, descending=True)
    if document is not None and kept.document is not None:
        owner = torch.cat([kept.document[latents], torch.full((len(latents), wide), -1)], 1)
        owner[line, n + place] = document
        mine = owner.gather(1, order)
        before = (mine[:, :, None] == mine[:, None, :]).tril(-1).sum(2)  # of the same document, with larger keys
        allowed = torch.zeros_like(joined, dtype=torch.bool).scatter_(1, order, before < most)
        joined = torch.where(allowed, joined, -1)
        order = joined.argsort(dim=1, descending=True)
    stays = torch.zeros_like(joined, dtype=torch.bool).scatter_(1, order[:, :n], True) & (joined >= 0)
    free = stays[:, :n].to(torch.uint8).argsort(dim=1, stable=True)  # the slots that nobody keeps come first
    new = stays[:, n:]
    into = torch.where(new, free.gather(1, (new.cumsum(1) - 1).clamp(min=0)), -1)[line, place]
    held = torch.where(stays[:, :n], joined[:, :n], -1)
    arrived = into >= 0
    held[line[arrived], into[arrived]] = key[arrived]
    kept.key[latents], kept.least[latents] = held, held.amin(1)
    if document is not None and kept.document is not None:
        owner = torch.where(stays[:, :n], owner[:, :n], -1)
        owner[line[arrived], into[arrived]] = document[arrived]
        kept.document[latents] = owner
    return into
