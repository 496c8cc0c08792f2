"""Can few latents say a label? Gurnee et al. 2023, "Finding Neurons in a Haystack" (arXiv:2305.01610), as SAEBench asks it
(Karvonen et al. 2025, arXiv:2503.09532).

    1. For each label, as many rows where it holds as where it does not, from the documents `choose` and from `test`.
    2. Latents are ranked on the former by the distance between their means on the two sides, times the length of their atom,
       so that the scale of a latent does not matter.
    3. Logistic regression on the first k of them, fitted on `choose`; its accuracy on `test`. Chance is one half.
    4. The same with the coordinates of the rows (part "coordinates"), with all of them at once ("all", what a linear probe can
       know), and with as many random directions as there are latents: the control.
    5. F1 of the first ranked column alone on rows as they come, cut where its F1 on `choose` is highest.

Accuracy on balanced sides hardly asks for precision: a direction graded along many rare labels can be ahead of a latent that is
silent on some rows of one label and says nothing else. Where labels are rare, F1 tells them apart.
In SAEBench a row is a text, and the means of codes over its tokens are read; here a row is a token.

Letters: n rows, d width, m latents, l labels, k test rows of one label, c columns used.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from actscope.core.dictionary import Dictionary
from actscope.core.labels import Labels
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.scores._parts.asked import Asked, ask, atoms_of, halves, read_rows
from actscope.scores._parts.census import rows_of
from actscope.scores._parts.columns import Columns, Projected
from actscope.scores._parts.detectors import f1, search
from actscope.scores._parts.letters import first_letters
from actscope.scores._parts.probes import logistic
from actscope.scores._parts.totals import mean_of_ratios, totals_interval

__all__ = ["sparse_probing"]


def sparse_probing(
    dictionary: Dictionary,
    subject: Subject,
    store: Store,
    labels: Labels | None = None,
    *,
    choose: Iterable[int] | None = None,
    test: Iterable[int] | None = None,
    ks: Sequence[int] = (1, 2, 5),
    least: int = 50,
    most: int = 500,
    natural: int = 20_000,
    seed: int = 0,
) -> Score:
    """The mean over labels of a probe's accuracy on held-out documents that sees only the ks[0] best latents.

    labels: None asks for the first letter of each token. choose, test: disjoint documents; by default the two halves of
    `split_documents(store, 2)`. Labels that hold, or fail to, on fewer than `least` rows of either are left out; at most `most`
    rows a side are drawn. natural: rows a half, at most, of step 5. parts: for every k "k:", "coordinates:", "random:"; "all";
    "f1", "f1_coordinates", "f1_random", over labels that hold somewhere on both samples of step 5; per label "label:" (at
    ks[0]). control: random directions at ks[0]. n: labels. Interval: bootstrap over the test documents; probes stand fixed.
    Raises BadInput for documents in both halves, and when no label is left.
    """
    groups = halves(store, choose, test, seed=seed)
    labels = first_letters(store, subject) if labels is None else labels
    fitting, testing = ask(dictionary, subject, store, labels, groups, least=least, most=most, seed=seed)
    usual = [_Usual.of(dictionary, store, labels, documents, natural, seed) for documents in groups]
    atoms = atoms_of(dictionary)
    drawn = torch.randn(dictionary.n_latents, atoms.shape[1], generator=torch.Generator().manual_seed(seed))
    eye, directions = torch.eye(atoms.shape[1]), functional.normalize(drawn, dim=1)
    rivals = {"k": _Rival(None, atoms), "coordinates": _Rival(eye, eye), "random": _Rival(directions, directions)}
    parts: dict[str, float] = {}
    right: dict[str, Bool[Tensor, " k"]] = {}
    for name, rival in rivals.items():
        best = rival.best(fitting, max(ks))
        for k in ks:
            found = _right(fitting, testing, rival, best[:, :k])
            parts[f"{name}:{k}"] = _mean(found)
            if (name, k) == ("k", ks[0]):
                right = found
        first = dict(zip(fitting.questions, best[:, 0].tolist(), strict=True))
        if each := _natural_f1(rival, first, *usual):
            parts["f1" if name == "k" else f"f1_{name}"] = sum(each) / len(each)
    whole = {cause: fitting.x[one.rows] for cause, one in fitting.questions.items()}
    asked = {cause: testing.x[one.rows] for cause, one in testing.questions.items()}
    parts["all"] = _mean({cause: _fit(fitting, testing, cause, whole[cause], asked[cause]) for cause in whole})
    sums = testing.by_document({cause: torch.stack([hit, torch.ones_like(hit)], 1).double() for cause, hit in right.items()})
    return Score(
        name="sparse_probing",
        definition="sparse_probing@1",
        value=parts[f"k:{ks[0]}"],
        unit="accuracy",
        better="higher",
        n=len(right),
        interval=totals_interval(sums, mean_of_ratios, seed=seed),
        control=parts[f"random:{ks[0]}"],
        parts=parts | {f"label:{cause}": float(hit.double().mean()) for cause, hit in right.items()},
    )


@dataclass(frozen=True)
class _Rival:
    """Columns to choose from: fixed directions, or else the dictionary's latents. atoms: what one unit of each adds."""

    directions: Float[Tensor, "m d"] | None
    atoms: Float[Tensor, "m d"]

    def on(self, sample: "Asked | _Usual") -> Columns | Projected:
        return sample.columns if self.directions is None else Projected(sample.x, self.directions)

    def best(self, fitting: Asked, k: int) -> Int[Tensor, "l c"]:
        """Step 2: for each label, the first k columns, or all where there are fewer."""
        apart = fitting.contrasts(self.on(fitting)).abs() * self.atoms.norm(dim=1)
        return apart.topk(min(k, apart.shape[1]), dim=1).indices


@dataclass(frozen=True)
class _Usual:
    """Rows of one half as they come."""

    x: Float[Tensor, "n d"]
    columns: Columns
    truth: Mapping[str, Bool[Tensor, " n"]]

    @staticmethod
    def of(dictionary: Dictionary, store: Store, labels: Labels, documents: Sequence[int], most: int, seed: int) -> "_Usual":
        rows = rows_of(store.text[1], documents)
        drawn = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:most].sort().values
        x, columns = read_rows(dictionary, store, rows[drawn])
        return _Usual(x, columns, labels.at(columns.where))


def _right(fitting: Asked, testing: Asked, rival: _Rival, best: Int[Tensor, "l c"]) -> dict[str, Bool[Tensor, " k"]]:
    """Step 3: for each label, on which test rows the probe on its columns is right."""
    seen, held = rival.on(fitting), rival.on(testing)
    right = {}
    for cause, columns in zip(fitting.questions, best, strict=True):
        x, y = seen.take(columns).T, held.take(columns).T
        right[cause] = _fit(fitting, testing, cause, x[fitting.questions[cause].rows], y[testing.questions[cause].rows])
    return right


def _natural_f1(rival: _Rival, first: Mapping[str, int], fitting: _Usual, testing: _Usual) -> list[float]:
    """Step 5, of labels that hold somewhere on both samples."""
    seen, held = rival.on(fitting), rival.on(testing)
    found = []
    for cause, column in first.items():
        known, holds = fitting.truth[cause], testing.truth[cause]
        if not (known.any() and holds.any()):
            continue
        detector = search(seen, torch.tensor([column, column + seen.width]), known)  # either sign
        says = detector.says(held.take(torch.tensor([column]))[0])
        found.append(float(f1((says & holds).sum(), says.sum(), holds.sum())))
    return found


def _fit(fitting: Asked, testing: Asked, cause: str, x: Float[Tensor, "n f"], y: Float[Tensor, "k f"]) -> Bool[Tensor, " k"]:
    return logistic(x, fitting.questions[cause].holds).says(y) == testing.questions[cause].holds


def _mean(right: Mapping[str, Bool[Tensor, " k"]]) -> float:
    return sum(float(hit.double().mean()) for hit in right.values()) / len(right)
