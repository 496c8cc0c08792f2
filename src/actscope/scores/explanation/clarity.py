"""Clarity: can text be written from an explanation that makes the latent fire? Puri et al. 2025, "FADE: Why Bad Descriptions
Happen to Good Features" (arXiv:2502.16994).

    1. Write texts that hold what is explained, from the explanation alone. Take natural texts at random.
    2. The subject reads both; a text's activation is the latent's largest in it.
    3. The score is the Gini coefficient, 2 AUROC - 1, of the activations of written against natural texts.

The paper's writer is a language model; `writer=` takes one. Without one, texts are spliced: the last tokens before a place of
natural text at which the judge says that the explanation holds, after the beginning of another text, kept where the judge
still says so. The paper takes the Gini's size; its sign is kept here.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from actscope.core.dictionary import Dictionary
from actscope.core.explanation import Explanation
from actscope.core.inputs import real_text
from actscope.core.judge import Judge, by_rule
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.core.text import TokenText
from actscope.scores._parts.agreement import Pairs, agreement, gini
from actscope.scores._parts.bootstrap import resample
from actscope.scores._parts.judging import checked, partners, reading_of
from actscope.scores._parts.rated import strongest, windows_of
from actscope.scores._parts.reading import Reading

__all__ = ["clarity"]

Writer = Callable[[Explanation, int, int], Sequence[str]]  # explanation, how many, seed -> texts

_BATCH = 32  # texts read at once


def clarity(
    explanations: Sequence[Explanation],
    dictionary: Dictionary,
    subject: Subject,
    store: Store,
    *,
    judge: Judge = by_rule,
    writer: Writer | None = None,
    documents: Iterable[int] | None = None,
    reading: Reading | None = None,
    samples: int = 100,
    natural: int = 1000,
    window: int = 32,
    tail: int = 12,
    looked: int = 20_000,
    contexts: int = 15,
    others: int = 3,
    permutations: int = 20,
    draws: int = 1000,
    seed: int = 0,
) -> Mapping[int, Score]:
    """Gini coefficient of the latent's activations in texts written from the explanation, against natural ones
    (arXiv:2502.16994).

    writer: (explanation, how many, seed) -> texts, `samples` of each explanation; without one the judge is asked about up
    to `looked` places, and what stands in the `tail` tokens up to one where it says yes ends a text of `window` tokens.
    natural: stretches of up to `window` tokens that stand in the store. Chance is 0. documents, reading, others,
    permutations, draws, control, interval and other (texts written from explanations of other latents): as for detection;
    a written text counts as a document. parts: written; judged. Returns latent -> Score; a latent whose explanation gave
    fewer than `contexts` texts has none.
    """
    reading = reading_of(dictionary, subject, store, documents, reading)
    spliced = _Spliced(reading.text, judge, window, tail, looked)
    texts = [list((writer or spliced)(one, samples, seed)) for one in explanations]
    rings = partners(explanations, others, seed=seed)
    wanted = [[one.latent] for one in explanations]  # of which latents each explanation's texts are asked
    for number, ring in enumerate(rings):
        for other in ring:
            wanted[other].append(explanations[number].latent)
    peaks = [_peaks(dictionary, subject, one, sorted(set(who))) for one, who in zip(texts, wanted, strict=True)]
    number = windows_of(reading, window)
    order = torch.randperm(int(number.max()) + 1, generator=torch.Generator().manual_seed(seed))[:natural]
    first = torch.zeros(int(number.max()) + 1, dtype=torch.long).scatter_(0, number.flip(0), reading.text.row.flip(0))
    document = reading.document[first[order]]
    weights = resample(int(reading.document.max()) + 1 + samples, draws=draws, seed=seed)
    found = {}
    for explanation, written, mine, ring in zip(explanations, texts, peaks, rings, strict=True):
        if len(written) < contexts:
            continue
        calm = strongest(reading, explanation.latent, number)[order]
        at = [mine, *(peaks[other] for other in ring if len(texts[other]) >= contexts)]
        own, *theirs = (_against(calm, document, one[explanation.latent], weights.shape[1] - samples) for one in at)
        found[explanation.latent] = agreement(
            "clarity", gini, own, theirs, unit="Gini", weights=weights, permutations=permutations,
            seed=seed + explanation.latent,
            parts={"written": float(len(written)), "judged": float(spliced.asked.get(explanation.latent, 0))},
        )  # fmt: skip
    return found


def _against(calm: Float[Tensor, " w"], document: Int[Tensor, " w"], peak: Float[Tensor, " s"], after: int) -> Pairs:
    truth = torch.cat([torch.ones(len(peak)), torch.zeros(len(calm))])
    return Pairs(torch.cat([peak, calm]), truth, torch.cat([after + torch.arange(len(peak)), document]))


@torch.no_grad()
def _peaks(
    dictionary: Dictionary, subject: Subject, texts: Sequence[str], latents: Sequence[int]
) -> dict[int, Float[Tensor, " s"]]:
    """Latent -> its largest activation in each text."""
    parts: list[Tensor] = []
    for start in range(0, len(texts), _BATCH):
        inputs = subject.prepare(list(texts[start : start + _BATCH]))
        real = real_text(inputs).cpu()
        acts = subject.run(inputs, read=[port.site for port in dictionary.reads]).acts
        codes = dictionary.encode({port: acts[port.site].flatten(2).float().cpu()[real] for port in dictionary.reads})
        full = torch.zeros(*real.shape, len(latents))
        full[real] = torch.stack([codes.column(latent) for latent in latents], 1).float()
        parts.append(full.amax(1))
    joined = torch.cat(parts) if parts else torch.zeros(0, len(latents))
    return dict(zip(latents, joined.T, strict=True))


class _Spliced:
    """The writer that needs no language model."""

    def __init__(self, text: TokenText, judge: Judge, window: int, tail: int, looked: int):
        self._text, self._judge, self._window, self._tail, self._looked = text, judge, window, tail, looked
        self.asked: dict[int, int] = {}  # latent -> rows the judge was asked about

    def __call__(self, explanation: Explanation, many: int, seed: int) -> list[str]:
        text = self._text
        generator = torch.Generator().manual_seed(seed + explanation.latent)
        rows = torch.randperm(len(text), generator=generator)[: self._looked].sort().values
        self.asked[explanation.latent] = len(rows)
        says = rows[checked(self._judge, explanation, text, rows) > 0.5]
        if not len(says):
            return []
        says = says[torch.randint(len(says), (2 * many,), generator=generator)]
        begin = text.start[torch.randint(len(text), (2 * many,), generator=generator)]
        ids = [self._joined(int(head), int(row)) for head, row in zip(begin, says, strict=True)]
        lengths = torch.tensor([len(one) for one in ids])
        where = torch.cat([torch.stack([torch.full((len(one),), k), torch.arange(len(one))], 1) for k, one in enumerate(ids)])
        made = TokenText(torch.cat(ids), where, text.vocabulary)
        holds = checked(self._judge, explanation, made, lengths.cumsum(0) - 1) > 0.5
        self.asked[explanation.latent] += len(ids)
        kept = [one for one, still in zip(ids, holds.tolist(), strict=True) if still][:many]
        return ["".join(text.vocabulary[token] for token in one.tolist()) for one in kept]

    def _joined(self, head: int, row: int) -> Tensor:
        """The start of one sequence, then what stands before a row of another and the row itself."""
        text = self._text
        low = max(int(text.start[row]), row - self._tail + 1)
        room = self._window - (row + 1 - low)
        stop = head + int((text.start[head : head + room] == text.start[head]).sum())
        return torch.cat([text.ids[head:stop], text.ids[low : row + 1]])
