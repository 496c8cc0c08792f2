"""Explanations and contexts as vectors: how near they are.

Letters: n texts, d width of a vector, v vocabulary, t tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from actscope.core.errors import BadInput
from actscope.core.explanation import Explanation
from actscope.core.inputs import real_text
from actscope.core.site import Site
from actscope.core.subject import Subject
from actscope.core.text import TokenText
from actscope.scores._parts.windows import before

Encoder = Callable[[Sequence[str]], Float[Tensor, "n d"]]

_BATCH = 256
_RARE = 1e-3  # a


@dataclass(frozen=True)
class Similarity:
    """A judge: (1 + cosine) / 2 of the explanation's words and the text of up to `window` tokens that end with the row."""

    encoder: Encoder
    window: int = 16

    def __call__(self, explanation: Explanation, text: TokenText, rows: Int[Tensor, " s"]) -> Float[Tensor, " s"]:
        contexts = before(rows, text, self.window)
        distinct = sorted(set(contexts))
        vectors = normalize(self.encoder([explanation.text, *distinct]).detach().float().cpu(), dim=1)
        if len(vectors) != len(distinct) + 1:
            raise BadInput(f"The encoder gave {len(vectors)} vectors for {len(distinct) + 1} texts; expected one a text.")
        cosine = dict(zip(distinct, (vectors[1:] @ vectors[0]).clamp(-1, 1).tolist(), strict=True))
        return (1 + torch.tensor([cosine[context] for context in contexts])) / 2


@dataclass(frozen=True)
class OwnEmbeddings:
    """The subject's own token embeddings as an encoder: the weighted mean over a text's tokens of their unit vectors.

    What all embeddings have in common says nothing: their mean and their `common` main directions are taken out (Mu and
    Viswanath 2018, "All-but-the-top"). A token of share p weighs a / (a + p), a = 0.001 (Arora et al. 2017, "A simple but
    tough-to-beat baseline for sentence embeddings"). text: where tokens are counted; None: all are as common.
    """

    subject: Subject
    text: TokenText | None = None
    common: int = 8

    @cached_property
    def table(self) -> Float[Tensor, "v d"]:
        site = Site("embed")
        if site not in self.subject.sites or Site("logits") not in self.subject.sites:
            raise BadInput(f"{self.subject.name} has no token embeddings to read; give encoder=, a function of texts.")
        width = self.subject.sites[Site("logits")].width
        ids = torch.arange(width).split(min(_BATCH, self.subject.context))
        with torch.no_grad():
            rows = torch.cat([self.subject.run(part[None], read=[site]).acts[site][0].float().cpu() for part in ids])
        counts = torch.ones(width) if self.text is None else torch.bincount(self.text.ids, minlength=width).float()
        share = counts[:, None] / counts.sum()
        rows = rows - (share * rows).sum(0)
        main = torch.linalg.svd(share.sqrt() * rows, full_matrices=False).Vh[: self.common]
        return normalize(rows - rows @ main.T @ main, dim=1) * _RARE / (_RARE + share)

    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        found = []
        for start in range(0, len(texts), _BATCH):
            inputs = self.subject.prepare(list(texts[start : start + _BATCH]))
            assert inputs.ids is not None
            real = real_text(inputs).float().cpu()[..., None]
            found.append((self.table[inputs.ids.cpu()] * real).sum(1) / real.sum(1).clamp_min(1))
        return torch.cat(found)
