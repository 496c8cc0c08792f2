"""Text as a subject runs it, and its layers: what every measure of a subject reads.

Letters: b batch, t tokens.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from actscope.core.corpus import Corpus
from actscope.core.errors import BadInput, EmptyCorpus, Interrupted, NotFinite
from actscope.core.inputs import Inputs, real_text
from actscope.core.progress import stop_requested
from actscope.core.site import Site
from actscope.core.subject import Subject
from actscope.scores._parts.totals import totals_interval
from actscope.stores._parts.pieces import inputs_of, layout, prepared


@dataclass(frozen=True)
class Passage:
    """One batch. where: (document, position in it) of every token, -1 for padding. inputs.mask and inputs.roles are set."""

    inputs: Inputs
    where: Int[Tensor, "b t 2"]

    @property
    def ids(self) -> Int[Tensor, "b t"]:
        assert self.inputs.ids is not None
        return self.inputs.ids

    @property
    def mask(self) -> Bool[Tensor, "b t"]:
        """Tokens, special ones included."""
        assert self.inputs.mask is not None
        return self.inputs.mask

    @property
    def text(self) -> Bool[Tensor, "b t"]:
        """Tokens of text."""
        return real_text(self.inputs)

    @property
    def documents(self) -> Int[Tensor, " b"]:
        """The document that each row is of, or a piece of."""
        return self.where[:, 0, 0]


@dataclass(frozen=True)
class Passages:
    """Documents in batches; one longer than the context is several rows. name: the corpus they come from."""

    name: str
    batches: tuple[Passage, ...]

    @staticmethod
    def of(subject: Subject, corpus: Corpus, *, tokens: int | None = None) -> "Passages":
        """The first documents of a corpus, at least `tokens` tokens of them where there are so many (None: all).

        Raises EmptyCorpus where there is none, BadInput for a subject that reads no text.
        """
        pieces, total = [], 0
        for _, found in prepared(subject, enumerate(corpus.documents()), subject.context):
            pieces.extend(found)
            total += sum(map(len, found))
            if tokens is not None and total >= tokens:
                break
        if not pieces:
            raise EmptyCorpus(f"{corpus.name} holds no token of text; give a text to read.")
        listed = tuple(pieces)
        batches = []
        for rows in layout(listed, subject.context, packed=False):
            inputs = inputs_of(rows, listed, packed=False)
            if inputs.ids is None or inputs.mask is None:
                raise BadInput(f"{corpus.name} holds images; measures of a subject read text.")
            where = torch.full((*inputs.ids.shape, 2), -1)
            for y, (number,) in enumerate(rows):
                piece = listed[number]
                where[y, : len(piece), 0] = piece.document
                where[y, : len(piece), 1] = piece.first + torch.arange(len(piece))
            batches.append(Passage(inputs, where))
        return Passages(corpus.name, tuple(batches))

    @cached_property
    def tokens(self) -> int:
        """Tokens that one pass runs."""
        return sum(int(batch.mask.sum()) for batch in self.batches)

    @cached_property
    def documents(self) -> int:
        return len(torch.cat([batch.documents for batch in self.batches]).unique())

    def __iter__(self) -> Iterator[Passage]:
        for batch in self.batches:
            if stop_requested():
                raise Interrupted("Stopped while measuring; nothing was to be saved. Run the same command again.")
            yield batch


def layers(subject: Subject, kind: str) -> list[Site]:
    """The subject's sites of a kind, in its order. Raises BadInput, saying why it has none."""
    found = [site for site in subject.order if site.kind == kind and site in subject.sites]
    if not found:
        raise BadInput(f"{subject.name} has no {kind} ({subject.missing.get(kind, 'its sites were given without it')}).")
    return found


def read(subject: Subject, batch: Passage, sites: list[Site]) -> Mapping[Site, Tensor]:
    """What stands at the sites, on the CPU in float32. Raises NotFinite."""
    with torch.no_grad():
        acts = {site: x.float().cpu() for site, x in subject.run(batch.inputs, read=sites).acts.items()}
    for site, x in acts.items():
        shown = x.movedim(1, 2)[batch.mask] if site.kind == "attn_pattern" else x[batch.mask]
        if not bool(shown.isfinite().all()):
            raise NotFinite(f"{site} of {subject.name} holds NaN or infinity on this text; look at its weights.")
    return acts


def mean_interval(
    sums: Float[Tensor, " g"], counts: Float[Tensor, " g"], *, seed: int
) -> tuple[float, tuple[float, float] | None]:
    """(pooled mean, its 95% interval by drawing documents again) from each document's sum and count."""
    both = torch.stack([sums, counts], dim=1).double()
    return float(sums.sum() / counts.sum()), totals_interval(both, lambda total: total[:, 0] / total[:, 1], seed=seed)
