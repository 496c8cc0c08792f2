"""What is true at tokens: cause -> does it hold at (document, position)?

Methods never see labels unless the caller passes them; only judges do.
Letters: n rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from actscope.core.corpus import Document


@dataclass(frozen=True)
class Labels:
    """Causes at token positions. `holds[cause]` lists document * 2**32 + position, sorted."""

    holds: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def causes(self) -> list[str]:
        return sorted(self.holds)

    def at(self, where: Int[Tensor, "n 2"]) -> dict[str, Bool[Tensor, " n"]]:
        """For each cause, whether it holds at each (document, position)."""
        key = where[:, 0].long() * 2**32 + where[:, 1].long()
        found = {}
        for cause in self.causes:
            listed = self.holds[cause]
            place = torch.searchsorted(listed, key)
            found[cause] = (
                listed[place.clamp(max=len(listed) - 1)] == key if len(listed) else torch.zeros_like(key, dtype=torch.bool)
            )
        return found


def labels_of(documents: Iterable[tuple[int, Document, Sequence[tuple[int, int]]]]) -> Labels:
    """Labels from (document number, document, character span of each token): a token whose characters overlap a
    cause's span holds that cause. Tokens with an empty span (special tokens) hold none."""
    found: dict[str, list[int]] = {}
    for number, document, offsets in documents:
        for position, (start, end) in enumerate(offsets):
            for span in document.spans:
                if start < span.end and span.start < end:
                    found.setdefault(span.cause, []).append(number * 2**32 + position)
    return Labels({cause: torch.unique(torch.tensor(keys)) for cause, keys in found.items()})
