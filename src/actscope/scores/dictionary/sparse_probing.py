"""Can few latents say a label? Gurnee et al. 2023, "Finding Neurons in a Haystack" (arXiv:2305.01610), as SAEBench asks it
(Karvonen et al. 2025, arXiv:2503.09532).

    1. For each label, as many rows where it holds as where it does not, from the documents `choose` and from `test`.
    2. Latents are ranked on the former by the distance between their means on the two sides, times the length of their atom,
       so that the scale of a latent does not matter.
    3. Logistic regression on the first k of them, fitted on `choose`; its accuracy on `test`. Chance is one half.
    4. The same with the coordinates of the rows (part "coordinates"), with all of them at once ("all", what a linear probe can
       know), and with as many random directions as there are latents: the control.

Letters: n rows, d width, m latents, l labels, k latents used.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from actscope.core.dictionary import Dictionary
from actscope.core.labels import Labels
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.scores._parts.asked import Asked, ask, atoms_of, halves
from actscope.scores._parts.columns import Columns, Projected
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
    seed: int = 0,
) -> Score:
    """The mean over labels of a probe's accuracy on held-out documents that sees only the ks[0] best latents.

    labels: None asks for the first letter of each token. choose, test: disjoint documents; by default the two halves of
    `split_documents(store, 2)`. Labels that hold, or fail to, on fewer than `least` rows of either are left out; at most `most`
    rows a side are drawn. parts: for every k "k:", "coordinates:", "random:"; "all"; per label "label:" (at ks[0]).
    control: random directions at ks[0]. n: labels. Interval: bootstrap over the test documents; probes stand fixed.
    Raises BadInput for documents in both halves, and when no label is left.
    """
    groups = halves(store, choose, test, seed=seed)
    fitting, testing = ask(dictionary, subject, store, labels, groups, least=least, most=most, seed=seed)
    atoms = atoms_of(dictionary)
    drawn = torch.randn(dictionary.n_latents, atoms.shape[1], generator=torch.Generator().manual_seed(seed))
    directions = functional.normalize(drawn, dim=1)
    eye = torch.eye(atoms.shape[1])
    rivals = {
        "k": (fitting.columns, testing.columns, atoms.norm(dim=1)),
        "coordinates": (Projected(fitting.x, eye), Projected(testing.x, eye), torch.ones(len(eye))),
        "random": (Projected(fitting.x, directions), Projected(testing.x, directions), torch.ones(len(directions))),
    }
    parts: dict[str, float] = {}
    right = _right(fitting, testing, rivals["k"], ks[0])
    for name, rival in rivals.items():
        for k in ks:
            parts[f"{name}:{k}"] = _mean(right if (name, k) == ("k", ks[0]) else _right(fitting, testing, rival, k))
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


def _right(
    fitting: Asked,
    testing: Asked,
    rival: tuple[Columns | Projected, Columns | Projected, Float[Tensor, " m"]],
    k: int,
) -> dict[str, Bool[Tensor, " k"]]:
    """Steps 2 and 3: for each label, on which test rows the probe on the first k columns is right. rival: columns on both
    samples, and the length of each."""
    seen, held, length = rival
    best = (fitting.contrasts(seen).abs() * length).topk(min(k, seen.width), dim=1).indices
    right = {}
    for cause, columns in zip(fitting.questions, best, strict=True):
        x, y = seen.take(columns).T, held.take(columns).T
        right[cause] = _fit(fitting, testing, cause, x[fitting.questions[cause].rows], y[testing.questions[cause].rows])
    return right


def _fit(fitting: Asked, testing: Asked, cause: str, x: Float[Tensor, "n f"], y: Float[Tensor, "k f"]) -> Bool[Tensor, " k"]:
    return logistic(x, fitting.questions[cause].holds).says(y) == testing.questions[cause].holds


def _mean(right: Mapping[str, Bool[Tensor, " k"]]) -> float:
    return sum(float(hit.double().mean()) for hit in right.values()) / len(right)
