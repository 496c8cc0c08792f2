"""Does a latent fail to fire because another has absorbed what it says? Chanin et al. 2024, "A is for Absorption"
(arXiv:2409.14507), with the two counts of SAEBench (Karvonen et al. 2025, arXiv:2503.09532).

    1. For each label, a linear probe on the rows; p is its direction, of length 1. And the label's main latents: see
       scores/_parts/main_latents.py. Both from the documents `choose`, of which every second one fits and the others say how
       many latents are main.
    2. On the documents `test`, rows where the label holds and the probe says so. What a latent gives there along p is its
       value times its atom's share along p; what is to be given is the row's, less what the dictionary gives without latents.
    3. Fully absorbed: no main latent is active; the latent that gives most has a cosine of at least 0.025 with p, and gives at
       least 0.4 of what is to be given.
    4. Absorbed in part: the up to three other latents that give most, of cosine at least 0.1, give at least 0.4 of it together.
       The fraction is what they give, at most what the main latents leave, over that plus what those give; else 0.

The paper finds the absorbing latent by ablation; here as in SAEBench by what it gives, which works in layers where the label
has moved to other tokens. Departures: atoms may have any length, and the row is taken from the dictionary's own zero.
Letters: n rows, d width, m latents, k rows of a label, s main latents.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput
from actscope.core.labels import Labels
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.scores._parts.asked import Asked, ask, atoms_of, halves
from actscope.scores._parts.detectors import f1
from actscope.scores._parts.main_latents import ladders
from actscope.scores._parts.probes import Probe, logistic
from actscope.scores._parts.totals import mean_of_ratios, totals_interval

__all__ = ["absorption"]

_ALIGNED, _PARTLY_ALIGNED, _SHARE, _TOGETHER = 0.025, 0.1, 0.4, 3


def absorption(
    dictionary: Dictionary,
    subject: Subject,
    store: Store,
    labels: Labels | None = None,
    *,
    choose: Iterable[int] | None = None,
    test: Iterable[int] | None = None,
    jump: float = 0.03,
    most_latents: int = 10,
    probe_f1: float = 0.6,
    against: int = 10,
    least: int = 50,
    most: int = 500,
    seed: int = 0,
) -> Score:
    """The mean over labels of the share of a label's rows that are fully absorbed (Chanin et al. 2024, arXiv:2409.14507).

    labels: None asks for the first letter of each token, as the paper does. Labels whose linear probe has an F1 below
    `probe_f1` on `test` are left out. parts: fraction (the mean fraction absorbed), fraction_control, silent (the share of
    those rows where no main latent is active), latents (main ones, mean), left_out, per label "full:", "fraction:". Codes that
    are never zero, as of neurons, are never silent: their full absorption is 0, and only the fraction speaks.
    control: the same with the atoms of the other latents permuted. n: labels. Interval: bootstrap over the test documents.
    choose, test, least, most, against: as in `splitting`. Raises BadInput for documents in both halves, or no label left.
    """
    chosen, tested = halves(store, choose, test, seed=seed)
    groups = [chosen[::2], chosen[1::2], tested]
    fitting, counting, testing = ask(
        dictionary, subject, store, labels, groups, least=least, most=most, against=against, seed=seed
    )
    atoms = atoms_of(dictionary)
    permuted = torch.randperm(len(atoms), generator=torch.Generator().manual_seed(seed))
    found: dict[str, Float[Tensor, "k 6"]] = {}
    latents = []
    for cause, ladder in ladders(fitting, counting, most=most_latents).items():
        probe = logistic(fitting.x[fitting.questions[cause].rows], fitting.questions[cause].holds)
        said = probe.says(testing.x[testing.questions[cause].rows])
        if _f1(said, testing.questions[cause].holds) >= probe_f1:
            main = ladder.main(jump)
            found[cause] = _judge(testing, cause, probe, said, atoms, main, permuted)
            latents.append(len(main))
    if not found:
        raise BadInput(
            f"No linear probe says any of the {len(testing.questions)} labels with an F1 of {probe_f1}; absorption needs "
            "labels that the model has at this site. Try another site, or lower `probe_f1`."
        )
    return _score(testing, found, latents, seed)


def _f1(said: Bool[Tensor, " k"], holds: Bool[Tensor, " k"]) -> float:
    return float(f1((said & holds).sum(), said.sum(), holds.sum()))


def _judge(
    testing: Asked,
    cause: str,
    probe: Probe,
    said: Bool[Tensor, " k"],
    atoms: Float[Tensor, "m d"],
    main: Int[Tensor, " s"],
    permuted: Int[Tensor, " m"],
) -> Float[Tensor, "k 6"]:
    """Of each row of the label: full, fraction, the two controls, silent; and 1 where it counts at all."""
    asked = testing.questions[cause]
    here = asked.holds & said
    direction = functional.normalize(probe.weight, dim=0)
    others = atoms[permuted]
    others[main] = atoms[main]
    codes = testing.columns.rows(asked.rows[here])
    wanted = testing.x[asked.rows[here]] @ direction
    full, fraction = _absorbed(codes, wanted, atoms, direction, main)
    full_control, fraction_control = _absorbed(codes, wanted, others, direction, main)
    silent = (codes[:, main] == 0).all(1)
    values = torch.zeros(len(here), 6, dtype=torch.float64)
    each = [full, fraction, full_control, fraction_control, silent, torch.ones_like(silent)]
    values[here] = torch.stack([one.double() for one in each], dim=1)
    return values


def _absorbed(
    codes: Float[Tensor, "k m"],
    wanted: Float[Tensor, " k"],
    atoms: Float[Tensor, "m d"],
    direction: Float[Tensor, " d"],
    main: Int[Tensor, " s"],
) -> tuple[Bool[Tensor, " k"], Float[Tensor, " k"]]:
    """Steps 3 and 4."""
    along = atoms @ direction
    cosine = along / atoms.norm(dim=1).clamp(min=1e-30)
    gives = codes * along
    most = gives.max(dim=1)
    silent = (codes[:, main] == 0).all(1)
    full = silent & (wanted > 0) & (cosine[most.indices] >= _ALIGNED) & (most.values >= _SHARE * wanted)
    able = cosine >= _PARTLY_ALIGNED
    able[main] = False
    others = torch.where(able, gives, 0.0).clamp(min=0).topk(min(_TOGETHER, gives.shape[1]), dim=1).values.sum(1)
    own = gives[:, main].sum(1).clamp(min=0)
    left = torch.minimum(others, wanted - own)
    counts = (wanted > 0) & (own < wanted) & (others >= _SHARE * wanted)
    return full, torch.where(counts, left / (left + own).clamp(min=1e-30), 0.0)


def _score(testing: Asked, found: dict[str, Float[Tensor, "k 6"]], latents: list[int], seed: int) -> Score:
    def means(number: int) -> dict[str, float]:
        return {cause: float(value[:, number].sum() / value[:, 5].sum()) for cause, value in found.items()}

    full, fraction, *rest = (means(number) for number in range(5))
    control, fraction_control, silent = (sum(one.values()) / len(one) for one in rest)
    sums = testing.by_document({cause: value[:, [0, 5]] for cause, value in found.items()})
    parts = {
        "fraction": sum(fraction.values()) / len(fraction),
        "fraction_control": fraction_control,
        "silent": silent,
        "latents": sum(latents) / len(latents),
        "left_out": float(len(testing.questions) - len(found)),
    }
    parts |= {f"full:{cause}": value for cause, value in full.items()}
    parts |= {f"fraction:{cause}": value for cause, value in fraction.items()}
    return Score(
        name="absorption",
        definition="absorption@1",
        value=sum(full.values()) / len(full),
        unit="share of rows",
        better="lower",
        n=len(found),
        interval=totals_interval(sums, mean_of_ratios, seed=seed),
        control=control,
        parts=parts,
    )
