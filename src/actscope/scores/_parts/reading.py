"""What a dictionary says of some documents, with their text, latent by latent; and contexts to judge a latent on.

Letters: n rows, m latents, s contexts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from actscope.core.codes import Codes
from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput, WrongSubject
from actscope.core.store import Store, same_subject
from actscope.core.subject import Subject
from actscope.core.text import TokenText


@dataclass(frozen=True)
class Reading:
    """Rows of whole documents in corpus order, their text, and where each latent is active (its value above 0)."""

    text: TokenText
    start: Int[Tensor, " m1"]  # latent j's entries are start[j]..start[j + 1]
    rows: Int[Tensor, " nnz"]
    values: Float[Tensor, " nnz"]

    @staticmethod
    def of(
        dictionary: Dictionary,
        store: Store,
        text: TokenText,
        documents: Iterable[int] | None = None,
        *,
        size: int = 8192,
    ) -> "Reading":
        """Encode the rows of `documents` (None: all). text: TokenText.of the same store. Raises BadInput for no rows."""
        index = text.row
        if documents is not None:
            index = torch.isin(text.where[:, 0], torch.tensor(sorted(documents), dtype=torch.long)).nonzero()[:, 0]
        if not len(index):
            raise BadInput("None of the documents given has a row in the store; `store.documents` lists those it has.")
        parts = []
        with torch.no_grad():
            for piece in index.split(size):
                parts.append(dictionary.encode(store.rows(piece, dictionary.reads).acts))
        return Reading.from_codes(Codes.cat(parts), text.select(index))

    @staticmethod
    def from_codes(codes: Codes, text: TokenText) -> "Reading":
        """From codes of the rows of `text`."""
        kept = codes.value > 0
        row, latent, value = codes.row[kept], codes.index[kept], codes.value[kept]
        order = latent.argsort(stable=True)
        start = torch.zeros(codes.width + 1, dtype=torch.long)
        start[1:] = torch.bincount(latent, minlength=codes.width).cumsum(0)
        return Reading(text, start, row[order], value[order])

    @property
    def counts(self) -> Int[Tensor, " m"]:
        """Rows on which each latent is active."""
        return self.start.diff()

    def active(self, latent: int) -> tuple[Int[Tensor, " k"], Float[Tensor, " k"]]:
        """(rows, values) where a latent is active, in corpus order."""
        here = slice(int(self.start[latent]), int(self.start[latent + 1]))
        return self.rows[here], self.values[here]

    @cached_property
    def document(self) -> Int[Tensor, " n"]:
        """For each row, the number of its document among those of this reading, in ascending order."""
        return self.text.where[:, 0].unique(return_inverse=True)[1]

    @cached_property
    def _by_token(self) -> tuple[Tensor, Tensor, Tensor]:
        order = self.text.ids.argsort(stable=True)
        counts = torch.bincount(self.text.ids, minlength=len(self.text.vocabulary))
        return order, counts.cumsum(0) - counts, counts

    def contexts(self, latent: int, *, most: int, above: float = 0.0, seed: int = 0) -> "Contexts":
        """Up to `most` random rows of each kind: active, inactive, and inactive with the token of an active one.

        Active is a value above `above` times the latent's largest; inactive is a value not above 0. The third kind is
        drawn to match: an active row at random, then a random row with the same token, kept where the latent is silent.
        """
        generator = torch.Generator().manual_seed(seed * 1_000_003 + latent)
        rows, values = self.active(latent)
        silent = torch.ones(len(self.text), dtype=torch.bool)
        silent[rows] = False
        if above > 0 and len(values):
            rows = rows[values > above * values.max()]
        active = rows[torch.randperm(len(rows), generator=generator)[:most]]
        others = torch.randint(len(self.text), (4 * most,), generator=generator)
        if silent.float().mean() < 0.5:
            others = silent.nonzero()[:, 0]
            others = others[torch.randperm(len(others), generator=generator)]
        order, start, counts = self._by_token
        hard = others[:0]
        if len(active):
            token = self.text.ids[active[torch.randint(len(active), (4 * most,), generator=generator)]]
            hard = order[start[token] + (torch.rand(len(token), generator=generator) * counts[token]).long()]
        return Contexts(active, _distinct(others[silent[others]])[:most], _distinct(hard[silent[hard]])[:most])


@dataclass(frozen=True)
class Contexts:
    """Rows of a reading. They differ inside each kind; a row may be both random and hard."""

    active: Int[Tensor, " a"]
    random: Int[Tensor, " b"]  # inactive
    hard: Int[Tensor, " c"]  # inactive, with the token of an active one

    @property
    def rows(self) -> Int[Tensor, " s"]:
        """All of them: active, random, hard."""
        return torch.cat([self.active, self.random, self.hard])


def check_subject(dictionary: Dictionary, subject: Subject, store: Store) -> None:
    """Raises WrongSubject where the three were not made with the same model."""
    same_subject(store, subject)
    if dictionary.subject and dictionary.subject != subject.fingerprint:
        raise WrongSubject(
            f"The dictionary was trained on a subject with fingerprint {dictionary.subject[:12]}; {subject.name} has "
            f"{subject.fingerprint[:12]}. Give the subject it was trained on."
        )


def _distinct(rows: Int[Tensor, " k"]) -> Int[Tensor, " l"]:
    """Without repetitions, in the order of first occurrence."""
    names, place = rows.unique(return_inverse=True)
    first = torch.full((len(names),), len(rows)).scatter_reduce_(0, place, torch.arange(len(rows)), "amin")
    return rows[first.sort().values]
