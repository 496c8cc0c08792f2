"""Explanations and contexts as vectors: how near they are.

Letters: n texts, s rows, d width of a vector, v vocabulary.
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


@dataclass(frozen=True)
class Pooled:
    """A subject that reads both ways as an encoder: the mean of its last stream over all tokens of a text, special ones too, as
    most sentence encoders are read."""

    subject: Subject

    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        streams = [site for site in self.subject.sites if site.kind == "resid_post" and not site.stack]
        if self.subject.causal or not streams:
            raise BadInput(f"{self.subject.name} does not read both ways; expected a sentence encoder, as `act.load` gives it.")
        site = max(streams, key=lambda one: one.layer or 0)
        found = []
        for start in range(0, len(texts), _BATCH):
            inputs = self.subject.prepare(list(texts[start : start + _BATCH]))
            with torch.no_grad():
                rows = self.subject.run(inputs, read=[site]).acts[site].float().cpu()
            real = torch.ones(rows.shape[:2]) if inputs.mask is None else inputs.mask.float().cpu()
            found.append((rows * real[..., None]).sum(1) / real.sum(1, keepdim=True))
        return torch.cat(found)


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
    """A judge by the subject's own token embeddings, where there is no sentence encoder: (1 + similarity) / 2 of the nearest
    two of the explanation's words and the up to `window` tokens that end with the row.

    Words are compared one by one and the best pair counts, as late interaction does (Khattab and Zaharia 2020, "ColBERT",
    arXiv:2004.12832; there a query's words add up, but those of an explanation are as often alternatives). Their sums blur: a
    context with one of eight words named was no nearer than others. Similarity is the cosine of two embeddings times the
    weight of the explanation's word, times `fade` for each token between the context's word and the row: what sets a latent
    off stands at the end. What all embeddings have in common says nothing: their mean and their `common` main directions are
    taken out (Mu and Viswanath 2018, "All-but-the-top"). A word of share p weighs log 1 / p (Jones 1972, "A statistical
    interpretation of term specificity"), as a part of the most that one of the explanation's weighs, so that the marks
    between the words it names are not what is found. text: where tokens are counted; None: all are as common.
    """

    subject: Subject
    text: TokenText | None = None
    window: int = 16
    fade: float = 0.75
    common: int = 8

    @cached_property
    def table(self) -> Float[Tensor, "v d"]:
        """The unit vector of every token, times its weight."""
        site = Site("embed")
        if site not in self.subject.sites or Site("logits") not in self.subject.sites:
            raise BadInput(f"{self.subject.name} has no token embeddings to read; give encoder=, a function of texts.")
        width = self.subject.sites[Site("logits")].width
        ids = torch.arange(width).split(min(_BATCH, self.subject.context))
        with torch.no_grad():
            rows = torch.cat([self.subject.run(part[None], read=[site]).acts[site][0].float().cpu() for part in ids])
        counts = torch.ones(width) if self.text is None else torch.bincount(self.text.ids, minlength=width).float()
        counts = counts[:, None]
        share = counts / counts.sum()
        rows = rows - (share * rows).sum(0)
        main = torch.linalg.svd(share.sqrt() * rows, full_matrices=False).Vh[: self.common]
        return normalize(rows - rows @ main.T @ main, dim=1) * (counts.sum() / (counts + 1)).log()

    def __call__(self, explanation: Explanation, text: TokenText, rows: Int[Tensor, " s"]) -> Float[Tensor, " s"]:
        inputs = self.subject.prepare([explanation.text])
        assert inputs.ids is not None
        words = self.table[inputs.ids.cpu()[real_text(inputs).cpu()].unique()]
        words = words / words.norm(dim=1).max().clamp_min(1e-9)
        nearest = (words @ normalize(self.table, dim=1).T).amax(0)  # of each token, to a word of the explanation
        found = torch.full((len(rows),), -1.0)
        for back in range(self.window):
            here = self.fade**back * nearest[text.ids[rows - back]]
            found = torch.where(rows - back >= text.start[rows], torch.maximum(found, here), found)
        return (1 + found.clamp(-1, 1)) / 2


def similarity(encoder: Encoder | Subject, text: TokenText | None, window: int) -> Similarity | OwnEmbeddings:
    """The judge that an encoder makes: a function of texts, a sentence encoder, or any other subject by its token embeddings,
    with its tokens counted in `text`."""
    if not isinstance(encoder, Subject):
        return Similarity(encoder, window)
    return OwnEmbeddings(encoder, text, window) if encoder.causal else Similarity(Pooled(encoder), window)
