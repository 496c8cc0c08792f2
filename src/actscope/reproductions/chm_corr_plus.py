"""Saying which patches count makes a classifier by correspondences more right if one knows the parts, and does not help one
who is unsure of them. Nguyen, Taesiri, Kim and Nguyen 2024, "Allowing humans to interactively guide machines where to look does
not always improve human-AI team's classification accuracy" (arXiv:2404.05238), on made pictures whose parts are known, with
simulated users.

    1. Pictures of 7 x 7 patches: three parts (each one of six textures) stand together somewhere, every other patch has one of
       twelve textures of habitat. A kind is a choice of the three; kinds differ in one part or more.
    2. A convolutional network learns the kinds from labelled pictures; its map has a vector a patch, from which queries are
       classified by correspondences (explainers/chm_corr_plus.py) with pictures of training.
    3. Accuracy with the machine's own choice of patches (baseline); with the parts (the oracle's mask); control: with as many
       random patches.
    4. Users, 18 of 39 decisions in each of two arms, the same queries in both. A user sees each part with probability
       SEES[0], takes any other patch for a part with SEES[1], and has to say whether the machine's first answer is right.
         static        they look at how many vote for the class said, or at how like the patches they take for parts are to
                       their counterparts in the picture that scores most of it: at what tells better, from a limit on that is
                       best, on queries of its own.
         interactive   they keep the patches that they take for parts, and say yes if the answer stays.
       The same for users who see better and worse, to say from where on editing helps.

What is reproduced is the direction of a study of people by rules for users; the rules are ours.
Letters: n pictures, q queries, p patches, k kinds.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from actscope.core.files import sha256
from actscope.core.progress import Progress, quiet
from actscope.core.reproduction import Reproduction
from actscope.explainers.chm_corr_plus import Correspondences
from actscope.explainers.chm_corr_plus import chm_corr_plus as matched
from actscope.organisms._pictures import Classifier, Pictures
from actscope.reproductions._parts.seeds import beyond, gathered, means
from actscope.scores._parts.seeds import over_seeds
from actscope.subjects.module import ModuleSubject, wrap
from actscope.training.fit import fit
from actscope.training.plan import Plan
from actscope.training.shuffled import Shuffled

__all__ = ["chm_corr_plus"]

CLAIM = (
    "With the parts as mask a classifier by patch correspondences is right more often than with its own choice of patches, and "
    "users unsure of the parts decide no better with editing than with the static explanation."
)
SIDE, CELL = 7, 4  # patches a side, pixels a side of a patch
PARTS, TEXTURES, KINDS, HABITATS = 3, 6, 12, 12
USERS, EACH = 18, 39
SEES = (0.6, 0.1)  # a part is taken for one; another patch is
BETTER = {"random": (0.15, 0.15), "unsure": SEES, "good": (0.85, 0.03), "sure": (1.0, 0.0)}
_OFFSETS = ((0, 1), (1, 0), (1, 1))  # of the parts, in patches


@dataclass(frozen=True)
class World:
    """kinds: the texture of each part. Textures of parts and of habitats are pictures of a patch."""

    kinds: Int[Tensor, "k 3"]
    parts: Float[Tensor, "3 t c c"]
    habitats: Float[Tensor, "a c c"]

    def pictures(self, count: int, *, seed: int) -> tuple[Pictures, Bool[Tensor, "n p"]]:
        """(pictures, where their parts are)"""
        draw = torch.Generator().manual_seed(seed)
        kind = torch.randint(KINDS, (count,), generator=draw)
        habitat = torch.randint(HABITATS, (count, SIDE, SIDE), generator=draw)
        corner = torch.randint(0, SIDE - 1, (count, 2), generator=draw)
        cells = self.habitats[habitat]
        cells *= torch.rand(count, SIDE, SIDE, 1, 1, generator=draw) * 0.6 + 0.4
        where, each = torch.zeros(count, SIDE, SIDE, dtype=torch.bool), torch.arange(count)
        for part, (down, right) in enumerate(_OFFSETS):
            at = each, corner[:, 0] + down, corner[:, 1] + right
            cells[at], where[at] = self.parts[part][self.kinds[kind, part]], True
        x = cells.permute(0, 1, 3, 2, 4).reshape(count, 1, SIDE * CELL, SIDE * CELL)
        x = (x + 0.15 * torch.randn(x.shape, generator=draw)).clamp(0, 1)
        return Pictures(x, kind), where.flatten(1)


def chm_corr_plus(
    *, seeds: Sequence[int] = (0, 1, 2), seen: int = 2000, epochs: int = 15, full: bool = False, progress: Progress = quiet
) -> Reproduction:
    """Editing patch correspondences: an oracle gains, unsure users do not (Nguyen et al. 2024, arXiv:2404.05238).

    seeds: of world, network, pictures and users. seen: pictures trained on, and looked among; epochs: how often. full: ten
    seeds. holds: with the parts as mask the accuracy is above that of the machine's choice and of random patches in every seed,
    and over seeds (95%, Student's t), and the interval of what unsure users gain by editing does not lie above 0.
    """
    began = time.monotonic()
    if full:
        seeds = tuple(range(10))
    found: list[dict[str, float]] = []
    for number, seed in enumerate(seeds):
        progress(number, len(seeds), f"seed {seed}")
        found.append(_measured(seed, seen, epochs))
    progress(len(seeds), len(seeds), "seeds")
    figures = gathered(found)
    mean = means(figures)
    oracle, own, random = (figures[f"accuracy with {name}"] for name in ("the parts", "the machine's choice", "random patches"))
    gain, spread = over_seeds(figures["gain of unsure users by editing"])
    null = (gain if spread is None else spread[0]) <= 0
    return Reproduction(
        "chm-corr-plus", CLAIM, mean["accuracy with the parts"], mean["accuracy with the machine's choice"],
        mean["accuracy with random patches"], "accuracy", tuple(seeds), beyond(oracle, own, random) and null,
        time.monotonic() - began, figures, {"worlds": sha256(repr([(seed, seen, epochs) for seed in seeds]).encode())},
    )  # fmt: skip


def world(seed: int) -> World:
    """Twelve kinds no two alike, each differing from another in one part alone."""
    draw = torch.Generator().manual_seed(seed)
    first = torch.randint(TEXTURES, (KINDS // 2, PARTS), generator=draw)
    while len(first.unique(dim=0)) < len(first):
        first = torch.randint(TEXTURES, (KINDS // 2, PARTS), generator=draw)
    second = first.clone()
    each, part = torch.arange(len(first)), torch.randint(PARTS, (len(first),), generator=draw)
    while len(torch.cat([first, second]).unique(dim=0)) < KINDS:
        second = first.clone()
        second[each, part] = torch.randint(TEXTURES, (len(first),), generator=draw)

    def textures(count: int) -> Float[Tensor, "count c c"]:
        return (torch.rand(count, CELL, CELL, generator=draw) < 0.5).float()

    return World(torch.cat([first, second]), textures(PARTS * TEXTURES).unflatten(0, (PARTS, TEXTURES)), textures(HABITATS))


def _subject(seen: Pictures, seed: int, epochs: int) -> ModuleSubject:
    """Step 2: a vector for each patch, of the patch and a little around it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = nn.Sequential(nn.Conv2d(1, 32, CELL, stride=CELL), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU())
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, KINDS))
        model = Classifier(body, head, settings={"seed": seed}, moved=False)
    fit(model, Shuffled(seen, {"seed": seed}), Plan(rows=epochs * len(seen.labels), batch=50, decay=0.5, seed=seed))
    model.requires_grad_(False)
    return wrap(model, sites={"layers.0.resid_post": "body.1", "layers.1.resid_post": "body"}, example=seen.pixels[:1])


def _measured(seed: int, seen: int, epochs: int) -> dict[str, float]:
    place = world(seed)
    known, _ = place.pictures(seen, seed=4 * seed)
    subject = _subject(known, seed, epochs)
    found: dict[str, float] = {}
    arms = []
    for part in (1, 2):  # to choose users' limits on, to judge on
        asked, parts = place.pictures(USERS * EACH, seed=4 * seed + part)
        arms.append((matched(subject, *known, asked.pixels, site="layers.1.resid_post"), asked.labels, parts))
    choose, (cases, labels, parts) = arms
    draw = torch.Generator().manual_seed(seed)
    random = torch.rand(parts.shape, generator=draw).argsort(1).argsort(1) < PARTS
    for name, kept in (("the machine's choice", None), ("the parts", parts), ("random patches", random)):
        found[f"accuracy with {name}"] = float((cases.said(kept) == labels).float().mean())
    logits = subject.run(subject.prepare(asked.pixels)).logits
    assert logits is not None, "a classifier has logits"
    found["accuracy of the network"] = float((logits.argmax(1) == labels).float().mean())
    for name, sees in BETTER.items():
        static, interactive = _users(choose, (cases, labels, parts), sees, draw)
        found |= {f"decisions of {name} users, static": static, f"decisions of {name} users, editing": interactive}
        found[f"gain of {name} users by editing"] = interactive - static
    return found


Arm = tuple[Correspondences, Int[Tensor, " q"], Bool[Tensor, "q p"]]


def _users(choose: Arm, judge: Arm, sees: tuple[float, float], draw: torch.Generator) -> tuple[float, float]:
    """Step 4: the share of right decisions without editing and with it."""
    taken, kept = (_taken(arm[2], sees, draw) for arm in (choose, judge))
    was = choose[0].said() == choose[1]
    cue = max((_likeness, _agreed), key=lambda look: _limit(look(choose[0], taken), was)[1])
    limit, _ = _limit(cue(choose[0], taken), was)
    cases, labels, _ = judge
    right, stays = cases.said() == labels, cases.said(kept) == cases.said()
    return float(((cue(cases, kept) >= limit) == right).float().mean()), float((stays == right).float().mean())


def _taken(parts: Bool[Tensor, "q p"], sees: tuple[float, float], draw: torch.Generator) -> Bool[Tensor, "q p"]:
    """The patches that a user takes for parts."""
    return torch.rand(parts.shape, generator=draw) < torch.where(parts, *sees)


def _likeness(cases: Correspondences, taken: Bool[Tensor, "q p"]) -> Float[Tensor, " q"]:
    """Of the patches that a user takes for parts, to their counterparts in the picture that scores most of the class said."""
    scores = cases.scores().masked_fill(cases.labels != cases.said()[:, None], -torch.inf)
    shown = cases.cosine[torch.arange(len(scores)), scores.argmax(1)]
    return (shown * taken).sum(1) / taken.sum(1).clamp(min=1)


def _agreed(cases: Correspondences, taken: Bool[Tensor, "q p"]) -> Float[Tensor, " q"]:
    """How many vote for the class said."""
    return cases.votes().amax(1).float()


def _limit(cue: Float[Tensor, " q"], right: Bool[Tensor, " q"]) -> tuple[float, float]:
    """(the limit of a cue from which on saying yes is right most often, how often)"""
    limits = torch.cat([cue.unique(), torch.tensor([torch.inf])])
    share = ((cue[None] >= limits[:, None]) == right[None]).float().mean(1)
    return float(limits[share.argmax()]), float(share.max())
