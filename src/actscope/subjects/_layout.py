"""Masks and positions of a batch, made explicit.

Letters: b batch, t tokens now, s tokens attended to (cached ones and those of now).
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from actscope.core.errors import BadInput
from actscope.core.inputs import Inputs


class Layout(NamedTuple):
    """mask, document: over all s tokens; None where every one is real, or of one document. positions: None where they are
    0, 1, 2... attention: what the model is given, [b s] or [b 1 t s]; None where each token sees all that it ever may."""

    past: int
    mask: Bool[Tensor, "b s"] | None
    document: Int[Tensor, "b s"] | None
    positions: Int[Tensor, "b t"] | None
    attention: Bool[Tensor, "..."] | None

    def now(self, tokens: tuple[int, int], device: torch.device) -> tuple[Int[Tensor, "b t"], Bool[Tensor, "b t"]]:
        """(positions, mask) of this call's tokens, written out."""
        b, t = tokens
        positions = self.positions
        if positions is None:
            positions = torch.arange(self.past, self.past + t, device=device).expand(b, t)
        mask = torch.ones(b, t, dtype=torch.bool, device=device) if self.mask is None else self.mask[:, self.past :]
        return positions, mask

    def told(self, tokens: tuple[int, int], device: torch.device) -> Int[Tensor, "b t"] | None:
        """The positions that a model is told: of one token after a cache, what it would count out itself."""
        if self.positions is not None or not self.past or tokens[1] > 1:
            return self.positions
        return torch.full(tokens, self.past, device=device)

    def narrowed(self, window: int | None) -> Bool[Tensor, "b 1 t s"]:
        """`attention` written out, each token seeing no further back than `window` real tokens, itself included."""
        assert self.attention is not None
        seen, s = self.attention, self.attention.shape[-1]
        if seen.dim() == 2:
            causal = torch.ones(s - self.past, s, dtype=torch.bool, device=seen.device).tril(self.past)
            seen = _seeing_itself(causal & seen[:, None, :], self.past)
        if window is None:
            return seen
        place = torch.arange(s, device=seen.device)[None] if self.mask is None else self.mask.long().cumsum(1)
        return seen & (place[:, None, self.past :, None] - place[:, None, None, :] < window)


def layout(
    inputs: Inputs,
    tokens: tuple[int, int],
    *,
    past: int = 0,
    past_mask: Bool[Tensor, "b past"] | None = None,
    past_document: Int[Tensor, "b past"] | None = None,
    context: int,
    causal: bool = True,
) -> Layout:
    """How a batch of [b t] tokens lies after `past` cached ones. causal: none sees what comes after it. Raises BadInput for
    shapes that do not fit and for positions beyond the context."""
    b, t = tokens
    if all(value is None for value in (inputs.mask, inputs.document, inputs.sees, inputs.positions, past_mask, past_document)):
        _within(None, False, None, past + t, context)
        return Layout(past, None, None, None, None)
    mask = _joined("mask", inputs.mask, past_mask, b, t, past)
    if past_document is not None and inputs.document is None:
        raise BadInput("The cache holds packed documents; give Inputs(document=...) for the tokens that continue them.")
    document = _joined("document", inputs.document, past_document, b, t, past)
    if inputs.sees is not None:
        _shaped("sees", inputs.sees, (b, t, past + t))
        if inputs.positions is None:
            raise BadInput("Inputs(sees=...) says which tokens see each other, not where they stand; give positions as well.")
    if inputs.positions is not None:
        _shaped("positions", inputs.positions, (b, t))
    positions = _positions(inputs.positions, mask, document, t, past)
    _within(positions, inputs.positions is not None, None if mask is None else mask[:, past:], past + t, context)
    return Layout(past, mask, document, positions, _attention(inputs.sees, mask, document, positions, (b, t, past), causal))


def _joined(name: str, now: Tensor | None, before: Tensor | None, b: int, t: int, past: int) -> Tensor | None:
    """A row of all tokens, from one that may cover only those of now."""
    if now is None and before is None:
        return None
    if now is None:
        now = torch.ones(b, t, dtype=torch.bool, device=before.device)  # type: ignore[union-attr]
    if past and now.shape == (b, t):
        if before is None and name == "document":
            raise BadInput(
                "Inputs.document covers only the new tokens, and the cache holds none; give it for the cached ones too."
            )
        before = torch.ones(b, past, dtype=now.dtype, device=now.device) if before is None else before
        now = torch.cat([before, now], dim=1)
    _shaped(name, now, (b, past + t))
    return now.bool() if name == "mask" else now


def _shaped(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(value.shape) != shape:
        raise BadInput(f"Inputs.{name} has shape {tuple(value.shape)}; expected {shape} for this batch.")


def _positions(given: Tensor | None, mask: Tensor | None, document: Tensor | None, t: int, past: int) -> Tensor | None:
    if given is not None:
        return given
    if document is not None:
        place = torch.arange(document.shape[1], device=document.device).expand_as(document)
        starts = torch.ones_like(document, dtype=torch.bool)
        starts[:, 1:] = document[:, 1:] != document[:, :-1]
        return (place - torch.where(starts, place, 0).cummax(1).values)[:, past:]
    if mask is None:
        return None
    if past:
        return (mask.long().cumsum(1) - 1).clamp(min=0)[:, past:]
    first = mask.long().argmax(1, keepdim=True)
    return (torch.arange(t, device=mask.device) - first).clamp(min=0)


def _within(positions: Tensor | None, given: bool, mask: Tensor | None, total: int, context: int) -> None:
    if total <= context and not given:
        return
    longest = total
    if positions is not None:
        real = positions if mask is None else positions.masked_fill(~mask, 0)
        longest = int(real.max()) + 1 if real.numel() else 0
        if real.numel() and int(real.min()) < 0:
            raise BadInput(f"A position is {int(real.min())}; positions are counted from 0.")
    if longest > context:
        raise BadInput(f"A sequence reaches {longest} tokens; this subject takes at most {context}. Cut the text into pieces.")


def _attention(
    sees: Tensor | None, mask: Tensor | None, document: Tensor | None, positions: Tensor | None, sizes: tuple[int, int, int],
    causal: bool,
) -> Tensor | None:  # fmt: skip
    b, t, past = sizes
    if sees is None and document is None:
        if mask is not None or positions is None:
            return mask
        return torch.ones(b, past + t, dtype=torch.bool, device=positions.device)  # positions never mean packing
    if sees is not None:
        allowed = sees.bool()
        if document is not None:
            allowed = allowed & (document[:, past:, None] == document[:, None, :])
    else:
        may = torch.ones(t, past + t, dtype=torch.bool, device=document.device)  # type: ignore[union-attr]
        allowed = (may.tril(past) if causal else may) & (document[:, past:, None] == document[:, None, :])  # type: ignore[index]
    if mask is not None:
        allowed = allowed & mask[:, None, :]
    return _seeing_itself(allowed, past)


def _seeing_itself(allowed: Bool[Tensor, "b t s"], past: int) -> Bool[Tensor, "b 1 t s"]:
    """With padding, which sees nothing, seeing itself, so that nothing is NaN."""
    itself = torch.eye(allowed.shape[1], dtype=torch.bool, device=allowed.device)
    blind = ~allowed.any(-1, keepdim=True)
    allowed = torch.cat([allowed[..., :past], allowed[..., past:] | (blind & itself)], dim=-1)
    return allowed[:, None]
