"""Into how many latents a label is split. Chanin et al. 2024, "A is for Absorption" (arXiv:2409.14507), section on splitting.

    1. For each label, rows where it holds and `against` times as many where it does not, from two groups of documents.
    2. Latents in the order in which an L1 penalty lets them into logistic regression; probes on the first 1, 2... of them.
    3. As long as one more latent raises the F1 on held-out documents by more than `jump`, it is a part of the label.

Letters: l labels, f the most latents of one label.
"""

from collections.abc import Iterable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from actscope.core.dictionary import Dictionary
from actscope.core.labels import Labels
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.scores._parts.asked import Asked, Question, ask, halves
from actscope.scores._parts.detectors import f1
from actscope.scores._parts.main_latents import ladders, needed
from actscope.scores._parts.totals import totals_interval

__all__ = ["splitting"]


def splitting(
    dictionary: Dictionary,
    subject: Subject,
    store: Store,
    labels: Labels | None = None,
    *,
    choose: Iterable[int] | None = None,
    test: Iterable[int] | None = None,
    jump: float = 0.03,
    most_latents: int = 10,
    against: int = 10,
    least: int = 50,
    most: int = 500,
    seed: int = 0,
) -> Score:
    """The mean over labels of how many latents it takes to say one: 1 is not split (Chanin et al. 2024, arXiv:2409.14507).

    Only labels that some number of latents says with F1 of at least 0.5 count, as a label the dictionary does not know is not
    split; "unsaid" is how many do not (where none does, all count). labels, choose, test, least, most: as in `sparse_probing`.
    parts: per label "latents:" and "f1:" (of all its parts), "f1" and "f1:1" (means, with all parts and with one).
    control: the same with which rows hold a label permuted, over all labels. n: labels. Interval: bootstrap over the test
    documents; latents, probes and labels counted stand fixed. Raises BadInput for documents in both halves, or no label left.
    """
    groups = halves(store, choose, test, seed=seed)
    fitting, testing = ask(dictionary, subject, store, labels, groups, least=least, most=most, against=against, seed=seed)
    counts = _counts(fitting, testing, most_latents)
    best = {cause: _f1s(value.sum(0)).max() for cause, value in counts.items()}
    kept = {cause: value for cause, value in counts.items() if best[cause] >= 0.5} or counts
    sums, width = testing.by_document(kept), 3 * most_latents
    generator = torch.Generator().manual_seed(seed)
    noise = _counts(_permuted(fitting, generator), _permuted(testing, generator), most_latents)
    chance = [int(needed(value.sum(0)[None], jump)) for value in noise.values()]

    def mean(total: Float[Tensor, "r q"]) -> Float[Tensor, " r"]:
        return torch.stack([needed(part, jump) for part in total.split(width, dim=1)]).double().mean(0)

    split = {cause: int(needed(value.sum(0)[None], jump)) for cause, value in kept.items()}
    f1s = {cause: _f1s(value.sum(0)) for cause, value in kept.items()}
    parts = {
        "unsaid": float(sum(value < 0.5 for value in best.values())),
        "f1": float(sum(f1s[cause][count - 1] for cause, count in split.items()) / len(split)),
        "f1:1": float(sum(each[0] for each in f1s.values()) / len(split)),
    }
    parts |= {f"latents:{cause}": float(count) for cause, count in split.items()}
    parts |= {f"f1:{cause}": float(f1s[cause][count - 1]) for cause, count in split.items()}
    return Score(
        name="splitting",
        definition="splitting@1",
        value=sum(split.values()) / len(split),
        unit="latents per label",
        better="lower",
        n=len(split),
        interval=totals_interval(sums, mean, seed=seed),
        control=sum(chance) / len(chance),
        parts=parts,
    )


def _counts(fitting: Asked, testing: Asked, most: int) -> dict[str, Float[Tensor, "k c"]]:
    """Of each label, what its probes got right; narrower dictionaries repeat their last probe."""
    found = {}
    for cause, ladder in ladders(fitting, testing, most=most).items():
        counts = ladder.counts
        last = counts[:, -3:].repeat(1, most - len(ladder.latents))
        found[cause] = torch.cat([counts, last], dim=1)
    return found


def _f1s(counts: Float[Tensor, " c"]) -> Float[Tensor, " f"]:
    return f1(*counts.reshape(-1, 3).unbind(1))


def _permuted(asked: Asked, generator: torch.Generator) -> Asked:
    mixed = {
        cause: Question(one.rows, one.holds[torch.randperm(len(one.holds), generator=generator)])
        for cause, one in asked.questions.items()
    }
    return replace(asked, questions=mixed)
