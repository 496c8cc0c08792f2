"""A language model that reads a description by copying from it: a unigram model with a cache of the words seen so far (Kuhn
and De Mori 1990, "A cache-based natural language model for speech recognition"). It stands where no large model can be had.

Letters: b texts, t tokens, v vocabulary.
"""

import torch
from jaxtyping import Int
from torch import Tensor

from actscope.core.errors import BadInput
from actscope.core.inputs import Inputs, Run
from actscope.core.subject import Subject


class CacheReader:
    """A subject that only runs to its logits, with another subject's tokenizer."""

    def __init__(self, tokens: Subject, counts: Int[Tensor, " v"], *, share: float = 0.3):
        """counts: of the unigram model. share: of the next token's probability that the cache has."""
        self.name, self.fingerprint, self.context, self.causal = "cache model", tokens.fingerprint, 1 << 20, True
        self.sites, self.missing, self.order = {}, {}, ()
        self.prepare, self.pieces = tokens.prepare, tokens.pieces
        self._unigram = (counts + 0.5) / (counts + 0.5).sum()
        self._share = share

    def run(self, inputs, *, read=(), write=(), grad=False, cache=None) -> Run:
        """Log-probabilities of the next token, for every token."""
        ids = inputs.ids if isinstance(inputs, Inputs) else inputs
        assert ids is not None, "it reads text"
        read = torch.arange(1, ids.shape[1] + 1, device=ids.device)[:, None]
        seen = torch.zeros(*ids.shape, len(self._unigram)).scatter_(2, ids[..., None], 1.0).cumsum_(1)
        return Run(seen.mul_(self._share / read).add_((1 - self._share) * self._unigram).log_(), {})

    def weights(self):
        return {}

    def changed(self, change):
        raise BadInput(
            f"{self.name} counts words and has no weights or sites; it reads text, and nothing in it can be changed."
        )
