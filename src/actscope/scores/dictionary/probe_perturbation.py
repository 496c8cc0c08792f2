"""Does removing a label's latents harm the probe of that label and no other? Targeted probe perturbation of SAEBench (Karvonen
et al. 2025, arXiv:2503.09532), after Marks et al. 2024 (arXiv:2403.19647).

    1. For each label a linear probe on rows of the documents `choose`, half of which hold it.
    2. A latent's effect on a probe: how much higher its mean is where the label holds (0 where it is lower), times what one
       unit of it adds to the probe's logit.
    3. The n latents of the largest positive effect are set to zero on rows of `test`; what the dictionary misses is kept.
    4. The label's own loss of accuracy, less the mean loss of the other labels' probes on their rows. Mean over labels.

Only labels that are rarely true together count as other: one that contains another is harmed with good reason.
Letters: n rows, d width, m latents, l labels, q questions (rows of all labels), s latents removed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput
from actscope.core.labels import Labels
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.scores._parts.asked import Asked, ask, atoms_of, halves
from actscope.scores._parts.probes import logistic
from actscope.scores._parts.totals import document_sums, totals_interval

__all__ = ["probe_perturbation"]


def probe_perturbation(
    dictionary: Dictionary,
    subject: Subject,
    store: Store,
    labels: Labels | None = None,
    *,
    choose: Iterable[int] | None = None,
    test: Iterable[int] | None = None,
    ns: Sequence[int] = (2, 5, 10, 20, 50),
    at: int = 20,
    together: float = 0.05,
    draws: int = 5,
    least: int = 50,
    most: int = 200,
    seed: int = 0,
) -> Score:
    """How much more accuracy a label's probe loses than the others when its `at` latents are removed, mean over labels.

    labels: None asks for the first letter of each token. together: a label is no other of one with which it shares more than
    this share of either's rows. parts: for every n "n:", "intended:", "unintended:"; clean (accuracy of the probes); per
    label "label:". control: as many latents drawn from those active where the label holds, `draws` times a label.
    n: labels. Interval: bootstrap over the test documents; probes and latents stand fixed.
    choose, test, least, most: as in `sparse_probing`. Raises BadInput for documents in both halves, no label left, or none
    with another.
    """
    groups = halves(store, choose, test, seed=seed)
    fitting, testing = ask(dictionary, subject, store, labels, groups, least=least, most=most, seed=seed)
    others = _others(testing, together)
    judged = others.any(1).nonzero()[:, 0].tolist()
    if not judged:
        raise BadInput(
            f"None of the {len(others)} labels has another that is rarely true where it is; give more labels, or raise "
            "`together`."
        )
    bench = _Bench.of(fitting, testing, atoms_of(dictionary))
    effects = fitting.contrasts().clamp(min=0) * (bench.weights @ bench.atoms.T)
    sizes = sorted({*ns, at})
    losses = {n: torch.zeros(len(judged), len(bench.rows)) for n in sizes}
    control = torch.zeros(len(judged), len(bench.rows))
    generator = torch.Generator().manual_seed(seed)
    for line, label in enumerate(judged):
        best = effects[label].topk(min(max(sizes), effects.shape[1]))
        chosen = best.indices[best.values > 0]
        for n in sizes:
            losses[n][line] = bench.loss(chosen[:n])
        pool = bench.active[label].clone()
        pool[chosen[:at]] = False
        for _ in range(draws):
            drawn = pool.nonzero()[:, 0]
            control[line] += bench.loss(drawn[torch.randperm(len(drawn), generator=generator)[: min(at, len(chosen))]]) / draws
    return _score(bench, losses, control, at, bench.weighing(others, judged), judged, seed)


def _score(
    bench: "_Bench",
    losses: Mapping[int, Float[Tensor, "j q"]],
    control: Float[Tensor, "j q"],
    at: int,
    weighing: tuple[Float[Tensor, "j q"], Float[Tensor, "j q"]],
    judged: list[int],
    seed: int,
) -> Score:
    parts: dict[str, float] = {"clean": bench.accuracy}
    for n, lost in losses.items():
        own, other = (float((lost * part).sum(1).mean()) for part in weighing)
        parts |= {f"n:{n}": own - other, f"intended:{n}": own, f"unintended:{n}": other}
    difference = weighing[0] - weighing[1]
    each = (losses[at] * difference).sum(1)
    names = list(bench.asked.questions)
    parts |= {f"label:{names[label]}": value for label, value in zip(judged, each.tolist(), strict=True)}
    by_row = torch.stack([(losses[at] * difference).mean(0), weighing[0].mean(0)], dim=1)
    sums = document_sums(by_row, bench.asked.where[bench.rows, 0])
    return Score(
        name="probe_perturbation",
        definition="probe_perturbation@1",
        value=float(each.mean()),
        unit="accuracy lost",
        better="higher",
        n=len(judged),
        interval=totals_interval(sums, lambda total: total[:, 0] / total[:, 1], seed=seed),
        control=float((control * difference).sum(1).mean()),
        parts=parts,
    )


def _others(asked: Asked, together: float) -> Bool[Tensor, "l l"]:
    """For each label, which are rarely true where it is, and the reverse."""
    truth = asked.truth.float()
    share = (truth @ truth.T) / truth.sum(1).clamp(min=1)[:, None]
    return (share <= together) & (together >= share.T) & ~torch.eye(len(truth), dtype=torch.bool)


@dataclass(frozen=True)
class _Bench:
    """Every question put to its label's probe."""

    asked: Asked
    weights: Float[Tensor, "l d"]
    atoms: Float[Tensor, "m d"]
    rows: Int[Tensor, " q"]
    label: Int[Tensor, " q"]
    holds: Bool[Tensor, " q"]
    logits: Float[Tensor, " q"]
    active: Bool[Tensor, "l m"]  # latents that are active somewhere where the label holds

    @staticmethod
    def of(fitting: Asked, asked: Asked, atoms: Float[Tensor, "m d"]) -> "_Bench":
        """Probes fitted on one sample, put to the other."""
        probes = [logistic(fitting.x[one.rows], one.holds) for one in fitting.questions.values()]
        questions = list(asked.questions.values())
        rows = torch.cat([one.rows for one in questions])
        label = torch.repeat_interleave(torch.arange(len(questions)), torch.tensor([len(one.rows) for one in questions]))
        logits = torch.cat([probe.logit(asked.x[one.rows]) for one, probe in zip(questions, probes, strict=True)])
        active = torch.stack([(asked.columns.rows(one.rows[one.holds]) != 0).any(0) for one in questions])
        weights = torch.stack([probe.weight for probe in probes])
        return _Bench(asked, weights, atoms, rows, label, torch.cat([one.holds for one in questions]), logits, active)

    @property
    def accuracy(self) -> float:
        right = ((self.logits > 0) == self.holds).double()
        return float(torch.stack([right[self.label == label].mean() for label in range(len(self.weights))]).mean())

    def loss(self, latents: Int[Tensor, " s"]) -> Float[Tensor, " q"]:
        """Of each question: 1 where the probe was right and no longer is without these latents, -1 the other way round."""
        codes = self.asked.columns.take(latents).T
        here = (codes != 0).any(1)[self.rows].nonzero()[:, 0]
        taken = (codes[self.rows[here]] * (self.weights @ self.atoms[latents].T)[self.label[here]]).sum(1)
        before, holds = self.logits[here], self.holds[here]
        lost = torch.zeros(len(self.rows))
        lost[here] = ((before > 0) == holds).float() - ((before - taken > 0) == holds).float()
        return lost

    def weighing(self, others: Bool[Tensor, "l l"], judged: list[int]) -> tuple[Float[Tensor, "j q"], Float[Tensor, "j q"]]:
        """For each label judged, weights of questions that give its own mean, and the mean over its others of their means."""
        counts = torch.bincount(self.label, minlength=len(self.weights)).float()
        own = torch.eye(len(self.weights))[judged]
        other = others[judged].float() / others[judged].sum(1, keepdim=True)
        return (own / counts)[:, self.label], (other / counts)[:, self.label]
