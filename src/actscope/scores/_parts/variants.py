"""Many interventions on single tokens in one pass: the variants of a token share the tokens before it in one row.

A row is a prefix and, after it, every spot's token repeated once a variant; each copy attends to the tokens before
its spot and to itself, so it is computed as if it ended the sequence. Nothing before the spot differs between
variants, because attention is causal.
Letters: n spots, v variants, g spots of one pass, b rows of one pass, t tokens of a row, d width of the site.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from actscope.core.inputs import Inputs
from actscope.core.intervention import Add
from actscope.core.site import Site
from actscope.core.subject import Subject

_ROW = 384  # variants in one row, about: longer rows waste attention, shorter ones repeat the prefix
_TOKENS = 8192  # tokens in one pass
_LOGITS = 1 << 26  # numbers in one pass's logits

Vectors = Callable[[Tensor], Tensor]  # Int[g] spots -> Float[g v d] to add


def run_variants(
    subject: Subject, site: Site, sequences: Sequence[Tensor], spots: Int[Tensor, "n 2"], vectors: Vectors, v: int
) -> Iterator[tuple[Int[Tensor, " g"], Float[Tensor, "g v vocab"]]]:
    """Next-token logits at every spot with each of v vectors added at `site` there.

    sequences: token ids of each sequence. spots: (sequence, index in it). vectors: spots (numbers into `spots`) ->
    Float[g v d]. Spots come in an order of their own.
    """
    vocabulary = subject.sites[Site("logits")].width
    tokens = min(_TOKENS, max(1, _LOGITS // vocabulary))
    batch: list[tuple[Tensor, int]] = []
    longest = 0
    for row, length in sorted(_rows(spots, max(1, _ROW // v), v), key=lambda item: item[1]):
        if batch and max(longest, length) * (len(batch) + 1) > tokens:
            yield _run(subject, site, sequences, spots, vectors, v, [row for row, _ in batch], longest)
            batch, longest = [], 0
        batch.append((row, length))
        longest = max(longest, length)
    if batch:
        yield _run(subject, site, sequences, spots, vectors, v, [row for row, _ in batch], longest)


def _rows(spots: Tensor, most: int, v: int) -> list[tuple[Tensor, int]]:
    """(spots of one sequence that share a row, at most `most`; tokens of the row). Near spots stand together."""
    order = torch.argsort(spots[:, 0] * 2**32 + spots[:, 1])
    _, counts = torch.unique_consecutive(spots[order, 0], return_counts=True)
    rows = [row for part in order.split(counts.tolist()) for row in part.split(most)]
    return [(row, int(spots[row[-1], 1]) + len(row) * v) for row in rows]


def _run(
    subject: Subject, site: Site, sequences: Sequence[Tensor], spots: Tensor, vectors: Vectors, v: int,
    rows: list[Tensor], longest: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    here = torch.cat(rows)
    value = vectors(here)
    b, t = len(rows), longest
    ids = torch.zeros(b, t, dtype=torch.long)
    mask = torch.zeros(b, t, dtype=torch.bool)
    positions = torch.zeros(b, t, dtype=torch.long)
    sees = torch.eye(t, dtype=torch.bool).repeat(b, 1, 1)
    added = value.new_zeros(b, t, value.shape[-1])
    places = torch.empty(len(here), v, dtype=torch.long)  # in the flattened b * t
    done = 0
    for number, row in enumerate(rows):
        sequence = sequences[int(spots[row[0], 0])].long()
        prefix = int(spots[row[-1], 1])
        ids[number, :prefix] = sequence[:prefix]
        positions[number, :prefix] = torch.arange(prefix)
        sees[number, :prefix, :prefix] |= torch.ones(prefix, prefix, dtype=torch.bool).tril()
        for spot, index in enumerate(spots[row, 1].tolist()):
            start = prefix + spot * v
            ids[number, start : start + v] = sequence[index]
            positions[number, start : start + v] = index
            sees[number, start : start + v, :index] = True
            added[number, start : start + v] = value[done]
            places[done] = number * t + start + torch.arange(v)
            done += 1
        mask[number, : prefix + len(row) * v] = True
    logits = subject.run(Inputs(ids=ids, mask=mask, positions=positions, sees=sees), write=[Add(site, added)]).logits
    assert logits is not None, "a run without reads computes logits"
    return here, logits.flatten(0, 1)[places.to(logits.device)].float().cpu()
