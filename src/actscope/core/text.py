"""Tokens in reading order with their place and their text: what rules look at, with the steps that rules share.

Letters: n rows (tokens in reading order, sequences one after another), v vocabulary.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from actscope.core.store import Store
from actscope.core.subject import Subject


@dataclass(frozen=True)
class TokenText:
    """Tokens in reading order with their place and the text of every id. Rows of one sequence stand together.

    begins: the position in its document at which the sequence the model read starts; None where every document was
    one sequence. Rules look back to there and no further. Special tokens have no row.
    """

    ids: Int[Tensor, " n"]
    where: Int[Tensor, "n 2"]  # (document, position)
    vocabulary: tuple[str, ...]  # id -> text of the token, spaces and newlines as they are
    begins: Int[Tensor, " n"] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @staticmethod
    def of(store: Store, subject: Subject) -> "TokenText":
        """The text of every row of a store, in the words of the subject's tokenizer."""
        ids, where = store.text
        starts = [place for _, places in store.sequences(256) for place in places.tolist()]
        key = torch.tensor(sorted(document * 2**32 + position for document, position in starts), dtype=torch.long)
        mine = where[:, 0].long() * 2**32 + where[:, 1].long()
        found = key[(torch.searchsorted(key, mine, right=True) - 1).clamp(min=0)]
        begins = torch.where(found // 2**32 == where[:, 0], found % 2**32, 0)  # inside a packed sequence: its own start
        return TokenText(ids.long(), where.long(), tuple(subject.pieces(range(int(ids.max()) + 1))), begins)

    def select(self, rows: Int[Tensor, " k"]) -> "TokenText":
        """Only these rows, which must be whole documents for rules that look back to see what stands there."""
        begins = None if self.begins is None else self.begins[rows]
        return TokenText(self.ids[rows], self.where[rows], self.vocabulary, begins)

    @cached_property
    def row(self) -> Int[Tensor, " n"]:
        """0, 1, 2..."""
        return torch.arange(len(self.ids))

    @cached_property
    def start(self) -> Int[Tensor, " n"]:
        """For each row, the number of the first row of its sequence."""
        place = self.where[:, :1] if self.begins is None else torch.stack([self.where[:, 0], self.begins], 1)
        first = torch.ones(len(self.ids), dtype=torch.bool)
        first[1:] = (place[1:] != place[:-1]).any(1)
        return torch.where(first, self.row, 0).cummax(0).values if len(first) else self.row

    @cached_property
    def place(self) -> Int[Tensor, " n"]:
        """Tokens before this one in its sequence, special ones at its start not counted."""
        return self.where[:, 1] - self.where[self.start, 1]

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The text of every id without the white space around it."""
        return tuple(piece.strip() for piece in self.vocabulary)

    @cached_property
    def _ids_of(self) -> Mapping[str, list[int]]:
        found: dict[str, list[int]] = {}
        for number, piece in enumerate(self.vocabulary):
            found.setdefault(piece, []).append(number)
        return found

    @cached_property
    def _cache(self) -> dict[object, Tensor]:
        return {}

    def listed(self, tokens: tuple[str, ...]) -> Bool[Tensor, " v"]:
        """Which ids have one of these texts."""
        mask = torch.zeros(len(self.vocabulary), dtype=torch.bool)
        mask[[number for token in tokens for number in self._ids_of.get(token, ())]] = True
        return mask

    def by_piece(self, name: object, measure: Callable[[str], int]) -> Int[Tensor, " v"]:
        """A number for every id, from its text; kept under `name`."""
        if name not in self._cache:
            self._cache[name] = torch.tensor([int(measure(piece)) for piece in self.vocabulary])
        return self._cache[name]

    def last(self, mask: Bool[Tensor, " n"]) -> Int[Tensor, " n"]:
        """The latest row before this one, in its sequence, where `mask` holds; -1 where there is none."""
        before = torch.full_like(self.row, -1)
        before[1:] = torch.where(mask, self.row, -1).cummax(0).values[:-1]
        return torch.where(before >= self.start, before, -1)

    def earlier(self, back: int) -> Int[Tensor, " n"]:
        """The id of the token `back` places before; -1 where that lies in another sequence or has no row."""
        return torch.where(self.reaches(back), self.ids.roll(back), -1)

    def reaches(self, back: int) -> Bool[Tensor, " n"]:
        """Whether the token `back` places before lies in this sequence and is the row that many rows before."""
        name = ("reaches", back)
        if name not in self._cache:
            near = (self.row - back >= self.start) & (self.where[:, 1] - self.where[:, 1].roll(back) == back)
            self._cache[name] = near if back else torch.ones_like(near)
        return self._cache[name]

    def alike(self, example: tuple[str, ...]) -> Float[Tensor, " n"]:
        """How far the tokens that end at each row are those of `example`: the last one counts 1, the one before it 1/2, then
        1/4 and so on; of places in another sequence or without a row nothing counts."""
        found = torch.zeros(len(self.ids))
        for back, token in enumerate(reversed(example)):
            if ("same", back) not in self._cache:  # ids of one text count as the first of them
                first = self.by_piece("first", lambda piece: self._ids_of[piece][0])[self.ids]
                self._cache["same", back] = torch.where(self.reaches(back), first.roll(back), -1)
            if token in self._ids_of:
                found += 0.5**back * (self._cache["same", back] == self._ids_of[token][0])
        return found

    def before(self, counts: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """The sum of `counts` over the earlier rows of the sequence."""
        total = counts.cumsum(0) - counts
        return total - total[self.start]

    def first_run(self, length: int) -> Int[Tensor, " n"]:
        """The row of the sequence at which the last `length` tokens first stood together; the row itself where they
        have not before, or are not all there."""
        name = ("run", length)
        if name not in self._cache:
            run = self.start if length == 1 else self.first_run(length - 1).roll(1)
            whole = self.reaches(length - 1)
            alone = -1 - self.row  # a key of its own
            key, order = torch.where(whole, run * len(self.vocabulary) + self.ids, alone).sort(stable=True)
            new = torch.ones_like(key, dtype=torch.bool)
            new[1:] = key[1:] != key[:-1]
            head = torch.where(new, self.row, 0).cummax(0).values  # where, in sorted order, each group of keys begins
            self._cache[name] = torch.empty_like(order).scatter_(0, order, order[head])
        return self._cache[name]

    @cached_property
    def line_start(self) -> Bool[Tensor, " n"]:
        """The first token of a line that is not blank: since the token before it that is not, a line has ended."""
        blank = self.by_piece("blank", lambda piece: not piece.strip()).bool()[self.ids]
        breaks = self.by_piece("breaks", lambda piece: "\n" in piece).bool()[self.ids]
        ends = self.by_piece("ends", lambda piece: "\n" in piece[len(piece.rstrip()) :]).bool()[self.ids]
        opens = self.by_piece("opens", lambda piece: "\n" in piece[: len(piece) - len(piece.lstrip())]).bool()[self.ids]
        word = self.last(~blank)
        line = self.last(torch.where(blank, breaks, ends))
        return ~blank & ((word < 0) | (line >= word) | opens)

    @cached_property
    def line(self) -> Int[Tensor, " n"]:
        """For each row, the row at which its line begins; of blank tokens before the first line, the sequence's start."""
        return torch.where(self.line_start | (self.row == self.start), self.row, 0).cummax(0).values

    @cached_property
    def sentence_start(self) -> Bool[Tensor, " n"]:
        """The first token that is not blank after one that ends in . ! or ?, with white space between."""
        blank = self.by_piece("blank", lambda piece: not piece.strip()).bool()[self.ids]
        stops = self.by_piece("stops", lambda piece: piece.rstrip().rstrip("\"')]").endswith((".", "!", "?"))).bool()
        spaced = self.by_piece("spaced", lambda piece: piece[:1].isspace()).bool()[self.ids]
        word = self.last(~blank)
        after = (word >= 0) & stops[self.ids[word.clamp(min=0)]]
        return ~blank & ((word < 0) | after & (spaced | (word < self.row - 1)))


def shifted(mask: Bool[Tensor, " n"], text: TokenText, back: int) -> Bool[Tensor, " n"]:
    """What `mask` says `back` tokens earlier; False where that lies in another sequence or has no row."""
    return mask if back == 0 else mask.roll(back) & text.reaches(back)
