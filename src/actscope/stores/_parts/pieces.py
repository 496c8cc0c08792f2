"""From documents to the sequences a subject runs, grouped into units whose bytes do not depend on who runs them.

A document longer than the context is cut; every later piece is given the special tokens its document begins and ends
with. A unit is a run of whole documents of at least so many tokens. Inside a unit, rows of near lengths run together.
Letters: t tokens of a piece.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from actscope.core.corpus import Corpus, Document
from actscope.core.errors import BadInput, EmptyCorpus
from actscope.core.inputs import SPECIAL, TEXT, Inputs
from actscope.core.subject import Subject

TOGETHER = 8  # contexts' worth of tokens in one run
_PREPARE = 32  # documents tokenized together, and at most so many characters
_CHARACTERS = 200_000


@dataclass(frozen=True)
class Piece:
    """Consecutive tokens of one document, as the subject runs them. Token i stands at position first + i of it."""

    document: int
    first: int
    ids: Int[Tensor, " t"]
    roles: Int[Tensor, " t"]
    own: Bool[Tensor, " t"]  # False: a special token that this piece was given and its document has elsewhere
    image: Float[Tensor, "c h w"] | None = None  # what the subject runs in place of ids; these are then 0, 1, 2... in the image

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Planned:
    """The documents and pieces of one unit."""

    first: int  # number of its first document
    names: tuple[str, ...]  # their ids
    pieces: tuple[Piece, ...]

    @property
    def next(self) -> int:
        return self.first + len(self.names)


def cut(number: int, ids: Int[Tensor, " t"], roles: Int[Tensor, " t"], put: Bool[Tensor, " t"], context: int) -> list[Piece]:
    """The pieces of one prepared document; put: the special tokens that are no part of its text. Raises BadInput when the
    context has no room beside those at its two ends."""
    if len(ids) <= context:
        return [Piece(number, 0, ids, roles, torch.ones(len(ids), dtype=torch.bool))] if len(ids) else []
    inside = (~put).nonzero().flatten()
    before, end = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (len(ids), len(ids))
    after = len(ids) - end
    room = context - before - after
    if not len(inside):
        raise EmptyCorpus(
            f"All {len(ids):,} tokens of document number {number} are special, and it is longer than a context of {context}: "
            "there is no text in it to cut. Look at what subject.prepare gives for it (roles)."
        )
    if room < 1:
        raise BadInput(f"context={context} leaves no room beside {before + after} special tokens; give a larger one.")
    pieces = []
    for start in range(before, end, room):
        part = slice(start, min(start + room, end))
        own = torch.ones(before + part.stop - part.start + after, dtype=torch.bool)
        own[:before] = start == before
        own[len(own) - after :] = part.stop == end
        joined = [torch.cat([x[:before], x[part], x[end:]]) for x in (ids, roles)]
        pieces.append(Piece(number, start - before, joined[0], joined[1], own))
    return pieces


def prepared(subject: Subject, numbered: Iterable[tuple[int, Document]], context: int) -> Iterator[tuple[str, list[Piece]]]:
    """(id, pieces) of every numbered document; an empty text has no pieces."""
    for group in _groups(numbered):
        if any(document.image is not None for _, document in group):
            yield from _images(subject, group, context)
            continue
        texts = [document.text for _, document in group if document.text]
        inputs = subject.prepare(texts) if texts else Inputs()
        if texts and inputs.ids is None:
            raise BadInput(f"{subject.name} does not read texts; expected a subject with a tokenizer.")
        rows = iter(_rows(inputs) if texts else ())
        for number, document in group:
            yield document.id, cut(number, *next(rows), context) if document.text else []


def _images(subject: Subject, group: list[tuple[int, Document]], context: int) -> Iterator[tuple[str, list[Piece]]]:
    """The same for images: one piece each, a token a patch and whatever the model puts beside them."""
    images = [document.image for _, document in group if document.image is not None]
    if len(images) < len(group) or len({image.shape for image in images}) > 1:
        raise BadInput("The corpus gives images of several sizes, or images and texts; expected images of one size.")
    inputs = subject.prepare(torch.stack(images))  # type: ignore[arg-type]
    if inputs.pixels is None or inputs.mask is None:
        raise BadInput(f"{subject.name} does not say what it makes of images; expected a model of images, opened by load.")
    tokens = inputs.mask.shape[1]
    if tokens > context:
        raise BadInput(f"context={context} was given; an image is {tokens} tokens here, and images are not cut.")
    ids, roles, own = torch.arange(tokens), torch.full((tokens,), TEXT), torch.ones(tokens, dtype=torch.bool)
    for (number, document), pixels in zip(group, inputs.pixels.cpu(), strict=True):
        yield document.id, [Piece(number, 0, ids, roles, own, pixels)]


def sample(subject: Subject, corpus: Corpus) -> Inputs:
    """The least that a subject can be run on to see what it gives: two tokens, or the corpus's first image."""
    first = next(corpus.documents(), None)
    if first is None or first.image is None:
        return Inputs(ids=torch.zeros(1, 2, dtype=torch.long))
    return subject.prepare(first.image[None])  # type: ignore[arg-type]


def full(tokens: int, unit: int, context: int) -> bool:
    """Whether a unit of so many tokens ends here: it has `unit` tokens, or one context where that is more."""
    return tokens >= max(unit, context)


def planned(subject: Subject, corpus: Corpus, start: int, context: int, unit: int) -> Iterator[Planned]:
    """The units of a corpus from document number `start` on, which must be where a unit begins. A unit ends with the
    document that makes it full."""
    first, names, pieces, tokens = start, [], [], 0
    for name, found in prepared(subject, enumerate(corpus.documents(start), start), context):
        names.append(name)
        pieces.extend(found)
        tokens += sum(map(len, found))
        if full(tokens, unit, context):
            yield Planned(first, tuple(names), tuple(pieces))
            first, names, pieces, tokens = first + len(names), [], [], 0
    if names:
        yield Planned(first, tuple(names), tuple(pieces))


def rows_of(piece: Piece, special: bool) -> Bool[Tensor, " t"]:
    """Which tokens of a piece have a row in the store."""
    return piece.own if special else piece.roles != SPECIAL


def layout(pieces: Iterable[Piece], context: int, packed: bool) -> list[list[list[int]]]:
    """Batches of rows of piece numbers: a row holds one piece, or as many as fit when packed; rows of near lengths
    stand together, at most TOGETHER contexts of tokens a batch."""
    lengths = [len(piece) for piece in pieces]
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    rows = _packed(order, lengths, context) if packed else [[i] for i in order]
    batches: list[list[list[int]]] = []
    for row in rows:
        widest = sum(lengths[i] for i in batches[-1][0]) if batches else 0
        if not batches or (len(batches[-1]) + 1) * max(widest, 1) > TOGETHER * context:
            batches.append([])
        batches[-1].append(row)
    return batches


def inputs_of(batch: list[list[int]], pieces: tuple[Piece, ...], packed: bool) -> Inputs:
    """One run's inputs: rows padded on the right; packed rows say which piece each token is of. Images as they are."""
    images = [image for row in batch for i in row if (image := pieces[i].image) is not None]
    if images:
        if packed:
            raise BadInput("packed=True was given with images; an image is a sequence of its own. Leave packed out.")
        return Inputs(pixels=torch.stack(images))
    width = max(sum(len(pieces[i]) for i in row) for row in batch)
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    roles = torch.full_like(ids, SPECIAL)
    positions, document = torch.zeros_like(ids), torch.full_like(ids, -1)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    for y, row in enumerate(batch):
        x = 0
        for i in row:
            here = slice(x, x := x + len(pieces[i]))
            ids[y, here], roles[y, here] = pieces[i].ids, pieces[i].roles
            positions[y, here], document[y, here] = torch.arange(len(pieces[i])), i
        mask[y, :x] = True
    if packed:
        return Inputs(ids=ids, mask=mask, roles=roles, positions=positions, document=document)
    return Inputs(ids=ids, mask=mask, roles=roles)


def _packed(order: list[int], lengths: list[int], context: int) -> list[list[int]]:
    """First fit, longest first: rows of at most `context` tokens."""
    rows: list[list[int]] = []
    free: list[int] = []
    for i in order:
        fits = next((y for y, room in enumerate(free) if room >= lengths[i]), None)
        if fits is None:
            rows.append([])
            free.append(context)
            fits = len(rows) - 1
        rows[fits].append(i)
        free[fits] -= lengths[i]
    return sorted(rows, key=lambda row: -sum(lengths[i] for i in row))


def _rows(inputs: Inputs) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(ids, roles, which tokens the tokenizer put beside the text) of every row, without padding."""
    ids = inputs.ids.cpu()  # type: ignore[union-attr]
    roles = torch.full_like(ids, TEXT) if inputs.roles is None else inputs.roles.cpu()
    put = roles == SPECIAL
    if inputs.offsets is not None:
        put &= (inputs.offsets[..., 0] == inputs.offsets[..., 1]).cpu()
    lengths = [ids.shape[1]] * len(ids) if inputs.mask is None else inputs.mask.sum(1).tolist()
    for row, length in enumerate(lengths):
        yield ids[row, :length].clone(), roles[row, :length].clone(), put[row, :length]


def _groups(numbered: Iterable[tuple[int, Document]]) -> Iterator[list[tuple[int, Document]]]:
    """Documents to tokenize together."""
    group: list[tuple[int, Document]] = []
    characters = 0
    for item in numbered:
        group.append(item)
        characters += len(item[1].text)
        if len(group) >= _PREPARE or characters >= _CHARACTERS:
            yield group
            group, characters = [], 0
    if group:
        yield group
