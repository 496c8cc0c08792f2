"""Rules over text that say, token by token, whether something holds: serialisable, vectorised, readable.

Letters: n rows (tokens in reading order, documents one after another).
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class TokenText:
    """Tokens in reading order with their place and the text of every id. Rows of one document stand together."""

    ids: Int[Tensor, " n"]
    where: Int[Tensor, "n 2"]  # (document, position)
    vocabulary: tuple[str, ...]  # id -> text of the token, spaces and newlines as they are


@runtime_checkable
class Predicate(Protocol):
    def holds(self, text: TokenText) -> Bool[Tensor, " n"]:
        """Whether the rule holds at each token, given that token and what stands before it in its document."""
        ...

    def sentence(self) -> str:
        """The rule in words, to follow "fires on"."""
        ...


@dataclass(frozen=True)
class TokenIn:
    """The token `back` places before (0: this one) is one of `tokens`."""

    tokens: tuple[str, ...]
    back: int = 0

    def holds(self, text: TokenText) -> Bool[Tensor, " n"]:
        listed = torch.tensor([piece in set(self.tokens) for piece in text.vocabulary])
        return shifted(listed[text.ids], text, self.back)

    def sentence(self) -> str:
        shown = ", ".join(repr(token) for token in self.tokens)
        place = "the token" if self.back == 0 else "the previous token" if self.back == 1 else f"the token {self.back} before"
        return f"{place} {'is' if len(self.tokens) == 1 else 'is one of'} {shown}"


def shifted(mask: Bool[Tensor, " n"], text: TokenText, back: int) -> Bool[Tensor, " n"]:
    """What `mask` says `back` tokens earlier; False where that lies in another document or was not recorded."""
    if back == 0:
        return mask
    same = torch.zeros_like(mask)
    step = text.where[back:] - text.where[:-back]
    same[back:] = (step[:, 0] == 0) & (step[:, 1] == back)
    moved = torch.zeros_like(mask)
    moved[back:] = mask[:-back]
    return moved & same
