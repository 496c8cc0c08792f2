"""Latents described by the items of the sequences that activate them: RecSAE. Wang et al. 2024, "Understanding Internal
Representations of Recommendation Models with Sparse Autoencoders" (arXiv:2411.06112).

A TopK autoencoder is fitted to the vector inside a frozen recommender; each latent is described, and a description is worth
what it predicts of activations on sequences that took no part. The paper has a language model write and apply descriptions;
here one is a set of items and a count, found and applied without any label: it works on whatever runs sequences of tokens.

    1. The sequences are split in three by a hash of their ids: propose, select, report.
    2. On propose, an item's raise of a latent: by how much its value changes as the item comes in, on average.
    3. Rules: at least c of the last w items are among the s that raise it most. The best of each number of items, by F1 at
       predicting where the latent is active, go on.
    4. On select, the best of these, less a price for every item named.
    5. On report, confidence: precision, recall and F1 of the rule at predicting activation. Control: the same rule predicting
       what the latent does in another sequence.

To edit a recommender, run it with `Splice(dictionary, without=(latent,))`.
Letters: n rows, s items named, w items looked back.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput, Interrupted
from actscope.core.explanation import Explanation
from actscope.core.predicate import Often
from actscope.core.progress import Progress, quiet, stop_requested
from actscope.core.score import Score
from actscope.core.store import Store, split_documents
from actscope.core.subject import Subject
from actscope.core.text import TokenText
from actscope.explainers._parts.evidence import evidence
from actscope.scores._parts.detectors import f1
from actscope.scores._parts.reading import Reading, check_subject
from actscope.scores._parts.totals import document_sums, totals_interval
from actscope.scores.explanation.detection import detection

__all__ = ["recsae"]

_SEEN = 5.0  # an item's raise is shrunk as if it had been seen so many times more, without effect
_COUNTS = (1, 2, 3, 4)  # c


def recsae(
    dictionary: Dictionary,
    subject: Subject,
    store: Store,
    *,
    latents: Sequence[int] | None = None,
    documents: Iterable[int] | None = None,
    contexts: int = 50,
    most: int = 1000,
    above: float = 0.0,
    windows: Sequence[int] = (1, 2, 3, 4, 6, 8, 12),
    items: int = 64,
    price: float = 0.0005,
    seed: int = 0,
    progress: Progress = quiet,
) -> list[Explanation]:
    """The items that raise each latent, with how well they predict it (RecSAE, Wang et al. 2024, arXiv:2411.06112).

    latents: which to explain (None: all). documents: which to use, best those the dictionary was not fitted on (None: all).
    contexts: rows on which a latent must be active, and silent, in each of the three splits; else it is left out. above: a
    latent is active where its value is above this share of its largest. windows: how many of the last items a rule may look at.
    items: the most it may name. price: F1 that an item named must gain on select. most: contexts for detection.

    evidence: as of `rules`, and "raises": [item, raise] of the items named, in the site's units. scores: "confidence" (F1 on
    report; parts precision, recall, base; control: other sequences) and detection. The most confident on select come first.

    Raises WrongSubject where dictionary, subject and store do not belong together; BadInput for latents out of range, for
    windows that cannot be, or where a split has no document.
    """
    check_subject(dictionary, subject, store)
    wanted = list(range(dictionary.n_latents)) if latents is None else list(latents)
    inside = not wanted or 0 <= min(wanted) <= max(wanted) < dictionary.n_latents
    if not inside or not windows or min(windows) < 1 or items < 1:
        raise BadInput(
            f"latents={latents}, windows={windows}, items={items}: expected latents from 0 to {dictionary.n_latents - 1}, and "
            "windows and a number of items from 1 on."
        )
    parts = _parts(dictionary, subject, store, documents, seed, above)
    propose, select, report = parts
    enough = torch.stack([part.enough(contexts) for part in parts]).all(0)
    alive = [latent for latent in wanted if enough[latent]]
    found = []
    for number, latent in enumerate(alive):
        if stop_requested():
            raise Interrupted(f"Stopped after {number} of {len(alive)} latents; nothing was saved: run it again.")
        progress(number, len(alive), "latents explained")
        raises = propose.raises(latent)
        proposals = list(_proposals(propose, latent, raises, windows, items))
        worths = [select.agreement(latent, rule) - price * len(rule.tokens) for rule in proposals]
        best = max(range(len(proposals)), key=lambda one: worths[one])
        tried = {"asked": len(wanted), "explained": len(alive), "compared": len(proposals)}
        found.append(_explained(latent, proposals[best], parts, raises, {"tried": tried, "select": worths[best]}, seed))
    progress(len(alive), len(alive), "latents explained")
    drawn = {"contexts": contexts, "most": most, "above": above, "seed": seed + 3}
    judged = detection(found, dictionary, subject, store, reading=report.reading, **drawn)
    found = [replace(one, scores=(*one.scores, judged[one.latent])) for one in found if one.latent in judged]
    return sorted(found, key=lambda one: -float(one.evidence["select"]))  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Part:
    """One split, encoded."""

    reading: Reading
    above: float

    def enough(self, contexts: int) -> Bool[Tensor, " m"]:
        counts = self.reading.counts
        if self.above > 0:
            counts = torch.tensor([int(self.active(latent).sum()) for latent in range(len(counts))])
        return (counts >= contexts) & (counts <= len(self.reading.text) - contexts)

    def values(self, latent: int) -> Float[Tensor, " n"]:
        """The latent's value on every row."""
        rows, values = self.reading.active(latent)
        return torch.zeros(len(self.reading.text)).index_put((rows,), values.float())

    def active(self, latent: int) -> Bool[Tensor, " n"]:
        values = self.values(latent)
        return values > self.above * values.max()

    def raises(self, latent: int) -> Float[Tensor, " v"]:
        """Step 2: for every id, over the rows of it that another row of the same sequence stands before."""
        text, values = self.reading.text, self.values(latent)
        follows = text.row > text.start
        change = (values - values.roll(1))[follows]
        total = torch.zeros(len(text.vocabulary)).index_add(0, text.ids[follows], change)
        return total / (torch.bincount(text.ids[follows], minlength=len(text.vocabulary)) + _SEEN)

    def agreement(self, latent: int, rule: Often) -> float:
        """F1 of a rule at predicting where the latent is active."""
        says, holds = rule.holds(self.reading.text), self.active(latent)
        return float(f1((says & holds).sum(), says.sum(), holds.sum()))


def _parts(
    dictionary: Dictionary, subject: Subject, store: Store, documents: Iterable[int] | None, seed: int, above: float
) -> list[_Part]:
    allowed = set(store.documents) if documents is None else set(documents)
    splits = [[number for number in part if number in allowed] for part in split_documents(store, 3, seed=seed)]
    if not all(splits):
        raise BadInput(
            f"{len(allowed)} sequences given, split {' + '.join(str(len(part)) for part in splits)}; propose, select and "
            "report each need some. Capture more of them."
        )
    text = TokenText.of(store, subject)
    return [_Part(Reading.of(dictionary, store, text, part), above) for part in splits]


def _proposals(part: _Part, latent: int, raises: Float[Tensor, " v"], windows: Sequence[int], items: int) -> Iterator[Often]:
    """Step 3: of every number of items, the two rules with the highest F1."""
    text, holds = part.reading.text, part.active(latent)
    order = raises.argsort(descending=True)
    upto = max(1, min(items, int((raises > 0).sum())))
    first = torch.stack([torch.maximum(text.start, text.row - within + 1) for within in windows])
    for size in _sizes(upto):
        listed = torch.zeros(len(raises), dtype=torch.bool).index_fill(0, order[:size], True)
        total = torch.cat([torch.zeros(1, dtype=torch.long), listed[text.ids].long().cumsum(0)])
        count = total[text.row + 1] - total[first]
        ranked = []
        for least in _COUNTS:
            says = count >= least
            worth = f1((says & holds).sum(1), says.sum(1), holds.sum())
            ranked += [(float(value), least, within) for value, within in zip(worth, windows, strict=True) if within >= least]
        tokens = tuple(text.vocabulary[number] for number in order[:size].tolist())
        yield from (Often(tokens, least, within) for _, least, within in sorted(ranked, reverse=True)[:2])


def _sizes(most: int) -> list[int]:
    """1, 2, 3... up to `most`, a quarter more each time."""
    sizes = [1]
    while sizes[-1] < most:
        sizes.append(min(most, max(sizes[-1] + 1, sizes[-1] * 5 // 4)))
    return sizes


def _explained(
    latent: int, rule: Often, parts: Sequence[_Part], raises: Float[Tensor, " v"], found: dict[str, object], seed: int
) -> Explanation:
    report = parts[-1]
    number = {piece: place for place, piece in enumerate(report.reading.text.vocabulary)}
    names = ("propose", "select", "report")
    kept = {
        **found,
        "raises": [[token, float(raises[number[token]])] for token in rule.tokens],
        "splits": {
            name: {
                "documents": int(part.reading.document.max()) + 1,
                "rows": len(part.reading.text),
                "active": int(part.active(latent).sum()),
            }
            for name, part in zip(names, parts, strict=True)
        },
        **evidence(latent, rule, report.reading, seed),
    }
    score = _confidence(rule.holds(report.reading.text), report.active(latent), report.reading, seed)
    return Explanation(latent, f"fires on {rule.sentence()}", "recsae", rule, kept, (score,))


def _confidence(says: Bool[Tensor, " n"], holds: Bool[Tensor, " n"], reading: Reading, seed: int) -> Score:
    """Step 5."""
    documents = reading.text.where[:, 0]
    sums = document_sums(torch.stack([says & holds, says, holds], 1).double(), documents)
    hit, said, true = sums.sum(0).tolist()
    elsewhere = holds[_another(reading.text.where)]
    control = f1((says & elsewhere).sum(), says.sum(), elsewhere.sum())
    return Score(
        name="confidence",
        definition="confidence@1",
        value=2 * hit / max(said + true, 1),
        unit="F1",
        better="higher",
        n=len(sums),
        interval=totals_interval(sums, lambda total: f1(*total.unbind(1)), seed=seed),
        control=float(control),
        parts={"precision": hit / max(said, 1), "recall": hit / max(true, 1), "base": true / len(says)},
    )


def _another(where: Int[Tensor, "n 2"]) -> Int[Tensor, " n"]:
    """For every row, one of the document half of all documents further on, at the same place of it or its last one before."""
    _, document = where[:, 0].unique(return_inverse=True)
    count = document.bincount()
    start = count.cumsum(0) - count
    other = (document + len(count) // 2 + 1) % len(count)
    place = torch.arange(len(where)) - start[document]
    return start[other] + torch.minimum(place, count[other] - 1)
