"""A recommender's latents are genres, and taking one off takes its genre off the recommendations. Wang et al. 2024,
"Understanding Internal Representations of Recommendation Models with Sparse Autoencoders" (arXiv:2411.06112), on a recommender
trained on synthetic users whose wants are known.

    1. Train a self-attentive recommender; fit TopK autoencoders to the vector from which it scores the next item. Of several
       numbers of latents and of active ones, those are taken whose latents say best what users kept for choosing want.
    2. A genre's latent says best (F1, any threshold) where a user wants the genre, on users kept for choosing. By the same
       search: the coordinate and the principal direction of the vector that say it best. F1 is measured on other users.
    3. On those users, ablate: the latent is taken off the vector; coordinates and principal directions are set to their means.
       A genre's rate is its share of the ten items recommended after every item. A genre passes when its F1 reaches its bar,
       its rate is cut by half or more, and those of the others by less than 5% (their mean, where a rise counts as no cut).
       Controls, at the same places and of the same length: random directions, and the other latents that are active there.
    4. Describe the genres' latents by the items that raise them, without knowing any genre (explainers/recsae.py): how well
       descriptions predict activations on users that took no part, and whether the items they name are of the genre.

Letters: u users, t items of a sequence, n rows, d width, m columns, v items, g genres.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from actscope.core.files import sha256
from actscope.core.intervention import Add
from actscope.core.progress import Progress, quiet
from actscope.core.reproduction import Reproduction
from actscope.core.store import Store
from actscope.dictionaries.topk import TopK
from actscope.explainers.recsae import recsae as described
from actscope.organisms.recommender import VECTOR, Trained, Users, recommender
from actscope.reproductions._parts.seeds import beyond, gathered, means
from actscope.scores._parts.columns import Columns
from actscope.scores._parts.detectors import Detector, best_detectors, f1
from actscope.stores.capture import capture
from actscope.training.fit import fit
from actscope.training.plan import Plan

__all__ = ["recsae"]

CLAIM = (
    "At least 80% of genres get a latent with F1 of 0.8 or more whose ablation cuts the genre's rate of recommendation by half "
    "or more, and those of the others by less than 5%."
)
BAR, FOUND, CUT, OTHERS = 0.8, 0.8, 0.5, 0.05
RIVALS = ("coordinate", "principal direction")
CONTROLS = ("random direction", "another latent")
TOP = 10


def recsae(
    *,
    seeds: Sequence[int] = (3, 4, 5),
    users: int = 40_000,
    captured: int = 2_000,
    rows: int = 400_000,
    sizes: Sequence[tuple[int, int]] = ((24, 3), (32, 3), (40, 3), (40, 4), (64, 4)),
    judged: int = 500,
    ablated: int = 200,
    full: bool = False,
    progress: Progress = quiet,
) -> Reproduction:
    """Genres among the latents of a recommender, ablated and described (RecSAE, Wang et al. 2024, arXiv:2411.06112).

    seeds: of the world, the recommender, the autoencoders and all users; 0 to 2 were looked at while `sizes` came about
    (LOG.md). users: the recommender is trained on. captured: users whose vectors the autoencoders are fitted to, on so many
    rows; sizes: (latents, active ones) to choose from. judged: users to choose on, and as many others to judge on, `ablated` of
    them. full: five seeds and three times the rows. holds: in every seed so many genres pass,
    and over seeds (95%, Student's t) more than with either rival and either control.
    """
    began = time.monotonic()
    if full:
        seeds, rows = tuple(range(3, 8)), 3 * rows
    found: list[dict[str, float]] = []
    for number, seed in enumerate(seeds):
        progress(number, len(seeds), f"seed {seed}")
        trained = recommender(seed, users=users)
        read = _read(trained, seed, captured, rows, sizes, judged)
        found.append(
            {
                "latents": float(read.sae.n_latents),
                **_learned(trained, read.judge),
                **_judged(trained, read, ablated, seed),
                **_described(trained, read, seed),
            }
        )
    progress(len(seeds), len(seeds), "seeds")
    figures = gathered(found)
    mean = means(figures)
    best = max(RIVALS, key=lambda rival: mean[f"pass by {rival}"])
    against = [figures[f"pass by {name}"] for name in (*RIVALS, *CONTROLS)]
    holds = min(figures["pass by latent"]) >= BAR and beyond(figures["pass by latent"], *against)
    return Reproduction(
        "recsae", CLAIM, mean["pass by latent"], mean[f"pass by {best}"], mean["pass by random direction"], "share of genres",
        tuple(seeds), holds, time.monotonic() - began, figures,
        {"worlds": sha256(repr([(seed, users, captured, judged) for seed in seeds]).encode())},
    )  # fmt: skip


class _Read(NamedTuple):
    """An autoencoder, and users who took no part in it with what was captured of them."""

    sae: TopK
    choose: Users
    choosing: Store
    judge: Users
    judging: Store


def _read(trained: Trained, seed: int, captured: int, rows: int, sizes: Sequence[tuple[int, int]], judged: int) -> _Read:
    """Step 1. Users of fitting, choosing and judging are drawn apart."""
    users = [trained.world.users(count, seed=3 * seed + part) for part, count in enumerate((captured, judged, judged))]
    names = ("fit", "choose", "judge")
    stores = [capture(trained.subject, one.corpus(name), [VECTOR]) for one, name in zip(users, names, strict=True)]
    saes = [TopK(reads=stores[0].ports, n_latents=latents, k=k, seed=seed) for latents, k in sizes]
    for sae in saes:
        fit(sae, stores[0], Plan(rows=rows, batch=1024, seed=seed))
    best = max(saes, key=lambda sae: _saying(sae, stores[1], users[1]))
    return _Read(best, users[1], stores[1], users[2], stores[2])


@torch.no_grad()
def _saying(sae: TopK, store: Store, users: Users) -> float:
    """How well latents say what users want: F1, mean over genres, of the best latent of each."""
    values, truth = sae.encode(_vectors(store)).dense(), _wanted(store, users)
    detectors = best_detectors(Columns(store.text[1], sae.n_latents, dense=values), truth, candidates=8)
    return float(_f1(values, detectors, truth).mean())


def _f1(values: Float[Tensor, "n m"], detectors: Sequence[Detector], truth: Bool[Tensor, "g n"]) -> Float[Tensor, " g"]:
    yes = torch.stack([one.says(values[:, one.column]) for one in detectors])
    return f1((yes & truth).sum(1).float(), yes.sum(1), truth.sum(1))


@torch.no_grad()
def _learned(trained: Trained, users: Users) -> dict[str, float]:
    """How often what came next was among the ten recommended: by the recommender; by who knows what is wanted and how popular
    each item is; by popularity alone."""
    world, following = trained.world, users.items[:, 1:, None]
    wanted = users.wants[:, 1:].float()
    scores = {
        "": _scores(trained, users)[:, :-1],
        " by knowing the wants": (wanted / wanted.sum(2, keepdim=True)) @ world.chance,
        " by popularity": world.chance.mean(0).expand(*following.shape[:2], -1),
    }
    tops = {name: score.topk(TOP, dim=2).indices for name, score in scores.items()}
    return {f"next item recommended{name}": float((top == following).any(2).float().mean()) for name, top in tops.items()}


def _scores(trained: Trained, users: Users, change: Float[Tensor, "u t d"] | None = None) -> Float[Tensor, "u t v"]:
    logits = trained.subject.run(users.items, write=[] if change is None else [Add(VECTOR, change)]).logits
    assert logits is not None
    return logits


def _rates(trained: Trained, users: Users, change: Float[Tensor, "u t d"] | None = None) -> Float[Tensor, " g"]:
    """Each genre's share of what is recommended. An item of two genres counts for both."""
    top = _scores(trained, users, change).topk(TOP, dim=2).indices
    return trained.world.genres[top].float().mean((0, 1, 2))


@dataclass(frozen=True)
class _Family:
    """Directions among which one is looked for: `values` of every row are what ablation takes off."""

    atoms: Float[Tensor, "m d"]
    values: Callable[[Float[Tensor, "n d"]], Float[Tensor, "n m"]]


def _families(read: _Read, x: Float[Tensor, "n d"]) -> dict[str, _Family]:
    mean = x.mean(0)
    axes = torch.linalg.eigh(torch.cov((x - mean).T))[1].T
    return {
        "latent": _Family(read.sae.atoms[read.sae.write], lambda x: read.sae.encode(x).dense()),
        "coordinate": _Family(torch.eye(x.shape[1]), lambda x: x - mean),
        "principal direction": _Family(axes, lambda x: (x - mean) @ axes.T),
    }


def _vectors(store: Store) -> Float[Tensor, "n d"]:
    (port,) = store.ports
    return store.rows(torch.arange(len(store)), [port]).acts[port]


def _wanted(store: Store, users: Users) -> Bool[Tensor, "g n"]:
    """Whether each genre is wanted at each row."""
    document, place = store.text[1].T
    return users.wants[document, place].T.contiguous()


@torch.no_grad()
def _chosen(read: _Read, family: _Family) -> tuple[Int[Tensor, " g"], Float[Tensor, " g"]]:
    """Step 2: (the column of each genre, its F1 on the users to judge on)."""
    values = family.values(_vectors(read.choosing))
    columns = Columns(read.choosing.text[1], values.shape[1], dense=values)
    detectors = best_detectors(columns, _wanted(read.choosing, read.choose), candidates=8)
    truth, values = _wanted(read.judging, read.judge), family.values(_vectors(read.judging))
    return torch.tensor([one.column for one in detectors]), _f1(values, detectors, truth)


@torch.no_grad()
def _judged(trained: Trained, read: _Read, ablated: int, seed: int) -> dict[str, float]:
    """Steps 2 and 3."""
    draw = torch.Generator().manual_seed(seed)
    users = Users(*(part[:ablated] for part in read.judge))
    x = trained.subject.run(users.items, read=[VECTOR]).acts[VECTOR]
    before = _rates(trained, users)
    found: dict[str, float] = {}
    for name, family in _families(read, _vectors(read.choosing)).items():
        columns, scores = _chosen(read, family)
        values = family.values(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        changes = [-values[..., column, None] * family.atoms[column] for column in columns.tolist()]
        found |= {f"F1 of {name}": float(scores.mean()), f"genres found by {name}": float((scores >= FOUND).float().mean())}
        found |= _cut(trained, users, before, scores, name, changes)
        if name == "latent":
            sizes = [change.norm(dim=2, keepdim=True) for change in changes]
            chance = [functional.normalize(torch.randn(x.shape, generator=draw), dim=2) * size for size in sizes]
            found |= _cut(trained, users, before, scores, "random direction", chance)
            others = [_another(values, column, family.atoms, draw) for column in columns.tolist()]
            others = [other * size for other, size in zip(others, sizes, strict=True)]
            found |= _cut(trained, users, before, scores, "another latent", others)
    return found


def _cut(
    trained: Trained,
    users: Users,
    before: Float[Tensor, " g"],
    scores: Float[Tensor, " g"],
    name: str,
    changes: Sequence[Float[Tensor, "u t d"]],
) -> dict[str, float]:
    """Step 3's figures: changes[i] is made to take genre i off."""
    cuts = torch.stack([1 - _rates(trained, users, change) / before for change in changes])
    own = cuts.diagonal()
    others = cuts[~torch.eye(len(cuts), dtype=torch.bool)].view(len(cuts), -1)
    lost = others.clamp(min=0).mean(1)
    return {
        f"pass by {name}": float(((scores >= FOUND) & (own >= CUT) & (lost < OTHERS)).float().mean()),
        f"cut of the genre by {name}": float(own.mean()),
        f"least cut of a genre by {name}": float(own.min()),
        f"cut of the others by {name}": float(lost.mean()),
        f"most cut of another by {name}": float(others.max()),
        f"length taken off by {name}": float(torch.stack([change.norm(dim=2).mean() for change in changes]).mean()),
    }


def _another(
    values: Float[Tensor, "u t m"], own: int, atoms: Float[Tensor, "m d"], draw: torch.Generator
) -> Float[Tensor, "u t d"]:
    """At every place the negative direction of another latent active there, drawn at random; nothing where none is."""
    live = values > 0
    live[..., own] = False
    picked = torch.where(live, torch.rand(values.shape, generator=draw), -1.0).argmax(2)
    return -functional.normalize(atoms[picked], dim=2) * live.any(2, keepdim=True)


@torch.no_grad()
def _described(trained: Trained, read: _Read, seed: int) -> dict[str, float]:
    """Step 4."""
    columns, _ = _chosen(read, _families(read, _vectors(read.choosing))["latent"])
    latents = sorted(set(columns.tolist()))
    told = {
        one.latent: one for one in described(read.sae, trained.subject, read.judging, latents=latents, contexts=30, seed=seed)
    }
    named, confident = [], []
    for genre, column in enumerate(columns.tolist()):
        if column in told:
            confident.append(told[column].score("confidence"))
            items = [int(token.strip("<>")) for token in told[column].rule.tokens]  # type: ignore[union-attr]
            named.append(trained.world.genres[items, genre].float().mean())
    return {
        "confidence of descriptions": sum(one.value for one in confident) / max(1, len(confident)),
        "confidence on other users": sum(one.control or 0.0 for one in confident) / max(1, len(confident)),
        "precision of descriptions": sum(one.parts["precision"] for one in confident) / max(1, len(confident)),
        "recall of descriptions": sum(one.parts["recall"] for one in confident) / max(1, len(confident)),
        "named items of the genre": float(sum(named)) / max(1, len(named)),
        "all items of a genre": float(trained.world.genres.float().mean()),
    }
