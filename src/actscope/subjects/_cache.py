"""The keys and values of tokens already run. Running on from a cache leaves it as it was and gives a longer one.

Letters: b batch, s tokens cached.
"""

from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Bool, Int
from torch import Tensor

from actscope.core.errors import BadInput


@dataclass(frozen=True)
class KeyValueCache:
    """A transformers cache with what it leaves out: which slots hold real tokens, and of which packed document.

    steps: how many calls went on from the prompt.
    """

    past: Any  # transformers.DynamicCache
    mask: Bool[Tensor, "b s"] | None = None
    document: Int[Tensor, "b s"] | None = None
    steps: int = 0

    @property
    def length(self) -> int:
        """Slots per row, padding included."""
        return int(self.past.get_seq_length())

    def opened(self) -> Any:
        """A transformers cache to run on with: it shares the tensors, and growing it leaves this one alone."""
        past = _copied(self.past)
        past.layers = [_copied(layer) for layer in past.layers]
        return past

    def crop(self, n: int) -> "KeyValueCache":
        """The first n slots. Raises BadInput when there are fewer."""
        if not 0 <= n <= self.length:
            raise BadInput(f"crop({n}) of a cache of {self.length} tokens; expected 0 to {self.length}.")
        return self._cut(lambda keys: keys[:, :, :n], lambda row: row[:, :n])

    def select(self, rows: Int[Tensor, " rows"]) -> "KeyValueCache":
        """Row i is this cache's row rows[i]; rows may repeat. A copy."""
        return self._cut(lambda keys: keys.index_select(0, rows.to(keys.device)), lambda row: row[rows.to(row.device)])

    def _cut(self, keys: Any, row: Any) -> "KeyValueCache":
        past = self.opened()
        for layer in past.layers:
            layer.keys, layer.values = keys(layer.keys), keys(layer.values)
        mask = None if self.mask is None else row(self.mask)
        return replace(self, past=past, mask=mask, document=None if self.document is None else row(self.document))


def _copied(thing: Any) -> Any:
    """A shallow copy: copy.copy in a tenth of the time, of which a step of a small model has little."""
    other = object.__new__(type(thing))
    vars(other).update(vars(thing))
    return other
