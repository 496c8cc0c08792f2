"""Does norm matching find how many latents a row needs? Lee et al. 2025, "Evaluating and Designing Sparse Autoencoders by
Approximating Quasi-Orthogonality" (top-AFA, arXiv:2503.24277), on rows whose true number is known.

    1. Rows: sums of 2 to 20 of t random directions, how many drawn evenly.
    2. Fit top-AFA, which is given no k, with each weight of its loss from the paper and each learning rate; and TopK with each
       k of a sweep and each learning rate. All see the same rows as often. The rate of each is that which leaves least
       unexplained on rows kept for choosing, with the first seed; of the settings of a method the best is chosen likewise.
    3. On other rows: the correlation of the number of active latents with the number of directions, and what is unexplained.
       Beside it the same of the best TopK, and of the TopK that counts best: its active latents may be fewer than k, since
       only those above zero are.
    4. Controls: an untrained top-AFA with random atoms, and the paper's own measure of it (AFA: how far the length of the
       codes is from that of the row).
    5. Where the loss itself leads: top-AFA whose encoder and atoms are the true directions (the most that its rule of
       selection can say), and the same after training from there.

Letters: n rows, d width, m latents, t true directions.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from actscope.core.dictionary import Dictionary
from actscope.core.progress import Progress, quiet
from actscope.core.reproduction import Reproduction
from actscope.core.store import Store
from actscope.dictionaries.top_afa import TopAFA
from actscope.dictionaries.topk import TopK
from actscope.reproductions._parts.planted import PORT, Planted, directions, planted, store_of
from actscope.reproductions._parts.seeds import gathered, means
from actscope.scores.dictionary.afa import afa
from actscope.training.fit import fit
from actscope.training.plan import Plan

__all__ = ["top_afa"]

CLAIM = (
    "With no k to tune, the number of latents active on a row correlates with the true number (2 to 20) at 0.8 or more, and "
    "the error is within 5% of the best TopK in a sweep of k."
)
BAR = 0.8
WITHIN = 1.05
LEAST, MOST = 2, 20  # directions of a row
WEIGHTS = (1 / 128, 1 / 32, 1 / 16)
SWEEP = (2, 4, 8, 16, 20, 32, 64, 128, 256)  # beyond what is true, for as many as top-AFA itself takes
RATES = (0.005, 0.015, 0.03)


def top_afa(
    *,
    seeds: Sequence[int] = (0, 1, 2),
    width: int = 256,
    true: int = 512,
    latents: int = 512,
    rows: int = 100_000,
    read: int = 50_000,
    held: int = 4000,
    weights: Sequence[float] = WEIGHTS,
    sweep: Sequence[int] = SWEEP,
    rates: Sequence[float] = RATES,
    full: bool = False,
    progress: Progress = quiet,
) -> Reproduction:
    """Is the number of active latents found without a k? top-AFA (Lee et al. 2025, arXiv:2503.24277) on planted directions.

    seeds: of directions, rows and autoencoders. width: d; true: t; latents: m. read: different rows; rows: seen in training.
    held: rows to choose on, and as many to judge on. weights: of the length loss, as the paper tries; sweep: of k; rates:
    learning rates. full: five seeds and three times the rows. ours, baseline and control: the correlation of top-AFA, of the
    TopK whose number of active latents says most (on the rows to choose on), and of random atoms. holds: in every seed the
    correlation reaches 0.8 and what is unexplained is at most 1.05 times that of the best TopK.
    """
    began = time.monotonic()
    if full:
        seeds, rows = tuple(range(5)), 3 * rows
    chosen: dict[str, float] = {}
    found: list[dict[str, float]] = []
    for number, seed in enumerate(seeds):
        progress(number, len(seeds), f"seed {seed}")
        data = _data(seed, width, true, read, held)
        made = _Made(data, latents, rows, seed)
        topk = _tried(made, {f"k={k}": {"k": k} for k in sweep}, rates, chosen)
        ours = _tried(made, {f"afa={afa:.4f}": {"afa": afa} for afa in weights}, rates, chosen)
        found.append({**_compared(data, ours, topk, chosen), **_untrained(made), **_from_the_truth(made, min(rates))})
    progress(len(seeds), len(seeds), "seeds")
    figures = gathered(found)
    mean = means(figures)
    holds = min(figures["r of top-AFA"]) >= BAR and max(figures["unexplained, over best TopK"]) <= WITHIN
    return Reproduction(
        "top-afa", CLAIM, mean["r of top-AFA"], mean["r of the TopK that counts best"], mean["r of random atoms"],
        "correlation with the true number", tuple(seeds), holds, time.monotonic() - began, figures,
        {"directions": f"{true} of width {width}, seeds {list(seeds)}"},
    )  # fmt: skip


@dataclass(frozen=True)
class _Data:
    """Rows to fit on, to choose on and to judge on."""

    fitting: Store
    choosing: Planted
    judging: Planted
    store: Store  # of the rows to judge on


def _data(seed: int, width: int, true: int, read: int, held: int) -> _Data:
    truth = directions(true, width, seed=10_000 + seed)
    fitting, choosing, judging = (
        planted(n, truth, least=LEAST, most=MOST, seed=100 * seed + part) for part, n in enumerate((read, held, held))
    )
    store = store_of({PORT: judging.rows}, name=f"planted {seed}")
    return _Data(store_of({PORT: fitting.rows}, name=f"planted {seed}"), choosing, judging, store)


@dataclass(frozen=True)
class _Made:
    """What is needed to fit one autoencoder after another."""

    data: _Data
    latents: int
    rows: int
    seed: int

    def new(self, **settings: int | float) -> Dictionary:
        """A TopK where k is given, else a TopAFA."""
        kind = TopK if "k" in settings else TopAFA
        return kind(reads={PORT: self.data.judging.rows.shape[1]}, n_latents=self.latents, seed=self.seed, **settings)  # type: ignore[arg-type]

    def fitted(self, one: Dictionary, lr: float) -> Dictionary:
        return fit(one, self.data.fitting, Plan(rows=self.rows, batch=512, lr=lr, seed=self.seed))


def _tried(
    made: _Made, settings: Mapping[str, Mapping[str, int | float]], rates: Sequence[float], chosen: dict[str, float]
) -> dict[str, Dictionary]:
    """Each setting at the rate that leaves least unexplained on the rows to choose on, found with the first seed."""
    best = {}
    for name, given in settings.items():
        fitted = {lr: made.fitted(made.new(**given), lr) for lr in ([chosen[name]] if name in chosen else rates)}
        chosen[name] = min(fitted, key=lambda lr: unexplained(fitted[lr], made.data.choosing))
        best[name] = fitted[chosen[name]]
    return best


def _compared(
    data: _Data, ours: Mapping[str, Dictionary], topk: Mapping[str, Dictionary], chosen: Mapping[str, float]
) -> dict[str, float]:
    """Step 3: of each method, the setting that leaves least unexplained on the rows to choose on."""
    found: dict[str, float] = {}
    for name, tried in (("top-AFA", ours), ("best TopK", topk)):
        best = min(tried, key=lambda which: unexplained(tried[which], data.choosing))
        one = tried[best]
        found |= {f"r of {name}": agreement(one, data.judging), f"unexplained by {name}": unexplained(one, data.judging)}
        found |= {f"active in {name}": active(one, data.judging), f"AFA of {name}": afa(one, data.store).value}
        setting = str(one.settings["k" if name == "best TopK" else "afa"])
        found |= {f"setting of {name}": float(setting), f"rate of {name}": chosen[best]}
        found[f"atoms found by {name}"] = recovered(one, data.judging)
    found["unexplained, over best TopK"] = found["unexplained by top-AFA"] / found["unexplained by best TopK"]
    found["highest r of top-AFA at any weight"] = max(agreement(one, data.judging) for one in ours.values())
    found["fewest active in top-AFA at any weight"] = min(active(one, data.judging) for one in ours.values())
    sparse = [one for one in topk.values() if int(str(one.settings["k"])) <= MOST]
    if sparse:
        least = min(sparse, key=lambda one: unexplained(one, data.choosing))
        found[f"unexplained, over best TopK up to k={MOST}"] = found["unexplained by top-AFA"] / unexplained(
            least, data.judging
        )
    counts = max(topk.values(), key=lambda one: agreement(one, data.choosing))
    found |= {"r of the TopK that counts best": agreement(counts, data.judging), "its k": float(str(counts.settings["k"]))}
    return found


def _untrained(made: _Made) -> dict[str, float]:
    """Step 4."""
    random = made.new(afa=WEIGHTS[0])
    data = made.data
    random.begin(next(data.fitting.batches([PORT], 4096)))  # type: ignore[operator]
    return {
        "r of random atoms": agreement(random, data.judging),
        "AFA of random atoms": afa(random, data.store).value,
        "active in random atoms": active(random, data.judging),
    }


def _from_the_truth(made: _Made, lr: float) -> dict[str, float]:
    """Step 5. The directions themselves have no centre; what training makes of it is part of where it leads."""
    data, one = made.data, made.new(afa=WEIGHTS[1])
    truth = data.judging.directions
    with torch.no_grad():
        for matrix in (one.encoder, one.decoder):
            matrix[: len(truth)] = truth[: len(matrix)]  # type: ignore[index]
    found = {"r of the true atoms": agreement(one, data.judging), "active in the true atoms": active(one, data.judging)}
    made.fitted(one, lr)
    found |= {"r after training from the true atoms": agreement(one, data.judging)}
    found |= {"active after training from the true atoms": active(one, data.judging)}
    return found


@torch.no_grad()
def agreement(one: Dictionary, these: Planted) -> float:
    """The correlation of the number of active latents with the number of directions; 0 where the former is the same on every
    row."""
    counts = torch.stack([one.encode(these.rows).indptr.diff().double(), these.present.sum(1).double()])
    return float(torch.corrcoef(counts)[0, 1]) if bool((counts.std(1) > 0).all()) else 0.0


@torch.no_grad()
def active(one: Dictionary, these: Planted) -> float:
    """Active latents a row."""
    return len(one.encode(these.rows).index) / len(these.rows)


@torch.no_grad()
def unexplained(one: Dictionary, these: Planted) -> float:
    """The squared error over the variance."""
    error: Tensor = these.rows - one.decode(one.encode(these.rows))[PORT]
    return float(error.square().sum() / (these.rows - these.rows.mean(0)).square().sum())


@torch.no_grad()
def recovered(one: Dictionary, these: Planted) -> float:
    """The mean over true directions of the highest cosine with an atom."""
    return float((these.directions @ functional.normalize(one.atoms[PORT], dim=1).T).max(1).values.mean())
