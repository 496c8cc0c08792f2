"""What goes into a subject and what comes out.

Letters: b batch, t tokens.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from actscope.core.site import Site

TEXT, SPECIAL = 0, 1  # roles of a token


class Inputs(NamedTuple):
    """A batch for a subject. Padding is explicit: `mask` is False where there is no token."""

    ids: Tensor | None = None  # Int[b t]
    pixels: Tensor | None = None  # Float[b c h w], in place of ids: images; their tokens are patches
    embeds: Tensor | None = None  # Float[b t d], in place of ids
    mask: Tensor | None = None  # Bool[b t]; None: every position is a token
    positions: Tensor | None = None  # Int[b t]; None: 0, 1, 2... from the first real token
    roles: Tensor | None = None  # Int[b t]: TEXT, or SPECIAL for tokens that stand for no text
    document: Tensor | None = None  # Int[b t]: number of the packed document; attention never crosses it
    decoder: Tensor | None = None  # Int[b u]: what the second of two stacks has read; None: its start token alone
    offsets: Tensor | None = None  # Int[b t 2]: character span of each token in its text
    sees: Tensor | None = None  # Bool[b t t]: which tokens each one attends to, in place of the causal rule; needs positions.
    # With it several continuations share one prefix in one row, and a row may be longer than the context: positions may not.

    def to(self, device: str) -> "Inputs":
        return Inputs(*(None if value is None else value.to(device) for value in self))


class Run(NamedTuple):
    """What one call of `subject.run` gives. A read returns what stands there after the writes."""

    logits: Tensor | None  # Float[b t vocab]; None where the run stopped before the end, or the model has no head
    acts: Mapping[Site, Tensor]  # exactly the sites asked for
    valid: Mapping[Site, Tensor] = {}  # sites that not every token reaches (experts): Bool[b t]
    cache: Any = None


def real_text(inputs: Inputs) -> Bool[Tensor, "b t"]:
    """Tokens of text: neither special nor padding."""
    assert inputs.ids is not None, "text has ids"
    real = torch.ones_like(inputs.ids, dtype=torch.bool) if inputs.mask is None else inputs.mask.bool()
    return real if inputs.roles is None else real & (inputs.roles == TEXT)


def predicted_text(inputs: Inputs) -> Bool[Tensor, "b t"]:
    """Tokens of text whose next token is text of the same document."""
    real = real_text(inputs)
    follows = torch.zeros_like(real)
    follows[:, :-1] = real[:, :-1] & real[:, 1:]
    if inputs.document is not None:
        follows[:, :-1] &= inputs.document[:, :-1] == inputs.document[:, 1:]
    return follows
