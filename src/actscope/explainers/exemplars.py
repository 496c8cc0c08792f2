"""Explain a latent by nothing but examples: where it fired, and a place like one of these is where it will fire again. The
baseline that any explanation in words must beat, as nearest neighbours are for classifiers (Cover and Hart 1967); the examples
are those that explainers by language model are shown (top, quantile and random, arXiv:2410.13928).

1. The documents are split in three as `rules` does. Examples come from propose: the strongest activations, one in each tenth
   of their range, and random ones, each the token and the `window` - 1 before it.
2. Places are alike when the same tokens stand there, the last one counting 1, the one before 1/2, then 1/4 and so on. How alike
   a place must be to the nearest example is chosen on select, by F-beta at the frequency of the text.
3. On report it is judged by detection with its control, as a rule is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from actscope.core.dictionary import Dictionary
from actscope.core.errors import Interrupted
from actscope.core.explanation import Explanation
from actscope.core.predicate import Like
from actscope.core.progress import Progress, quiet, stop_requested
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.core.text import TokenText
from actscope.explainers._parts.evidence import evidence
from actscope.explainers._parts.search import Aim
from actscope.explainers._parts.splits import Splits
from actscope.explainers._parts.strength import target_active

__all__ = ["exemplars"]

_ALIKE = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # at 1 the token itself is the same, at 1.5 the one before it too


def exemplars(
    dictionary: Dictionary,
    subject: Subject,
    store: Store,
    *,
    latents: Sequence[int] | None = None,
    documents: Iterable[int] | None = None,
    contexts: int = 200,
    most: int = 1000,
    above: float = 0.0,
    top: int = 10,
    quantiles: int = 10,
    random: int = 10,
    window: int = 6,
    beta: float = 2.5,
    seed: int = 0,
    progress: Progress = quiet,
) -> list[Explanation]:
    """Examples of where each latent fires, judged as a rule: it fires where the text resembles one of them.

    latents, documents, contexts, most, above, beta: as `rules` has them. top, quantiles, random: how many examples of each
    kind. window: tokens of an example. evidence: "alike" (how alike a place must be), "splits", "density", "peak",
    "top_tokens", "examples" (of report, to look at). scores: detection.

    Raises WrongSubject where dictionary, subject and store do not belong together; BadInput for latents out of range or
    when a split has no document.
    """
    work = Splits.of(dictionary, subject, store, documents, latents, contexts=contexts, most=most, above=above, seed=seed)
    found, aim = [], Aim(beta)
    for number, latent in enumerate(work.alive):
        if stop_requested():
            raise Interrupted(f"Stopped after {number} of {len(work.alive)} latents; nothing was saved: run it again.")
        progress(number, len(work.alive), "latents explained")
        rows, values = work.propose.active(latent)
        examples = _tokens(_chosen(rows, values, (top, quantiles, random), seed + latent), work.propose.text, window)
        target = target_active(work.select, latent, above)
        alike = Like(examples, 0.0).alike(work.select.text)
        rule = Like(examples, max(_ALIKE, key=lambda least: aim.worth(alike >= least, target)))
        kept = {"alike": rule.least, "splits": work.sizes(latent), **evidence(latent, rule, work.report, seed)}
        found.append(Explanation(latent, f"fires on {rule.sentence()}", "exemplars", rule, kept))
    progress(len(work.alive), len(work.alive), "latents explained")
    judged = work.judged(found)
    return [replace(one, scores=(judged[one.latent],)) for one in found if one.latent in judged]


def _chosen(rows: Int[Tensor, " a"], values: Tensor, sizes: tuple[int, int, int], seed: int) -> Int[Tensor, " k"]:
    """Rows of the strongest activations, of evenly spaced ranks, and of chance."""
    top, quantiles, random = sizes
    falling = rows[values.argsort(descending=True, stable=True)]
    spread = falling[torch.linspace(0, len(rows) - 1, quantiles).long()]
    chance = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:random]]
    return torch.cat([falling[:top], spread, chance])


def _tokens(rows: Int[Tensor, " k"], text: TokenText, window: int) -> tuple[tuple[str, ...], ...]:
    """The tokens that end at each row, no example twice."""
    first = torch.maximum(text.start[rows], rows - window + 1)
    found = [
        tuple(text.vocabulary[token] for token in text.ids[start : row + 1].tolist())
        for start, row in zip(first.tolist(), rows.tolist(), strict=True)
    ]
    return tuple(dict.fromkeys(found))
