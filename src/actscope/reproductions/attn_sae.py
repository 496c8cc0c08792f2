"""Attention-output autoencoders find induction features. Kissane et al. 2024, "Interpreting Attention Layer Outputs with
Sparse Autoencoders" (arXiv:2406.17759), on pocket, which copies: after "Repeat: a b c; a b" it says c.

    1. The layer: of all layers, the one with the head that attends most to the token after the previous occurrence.
    2. Fit an autoencoder to its z on documents of the rule.
    3. Draw words. A word's induction feature is the latent that says best (F1, any threshold) where that word is to be copied,
       on prompts kept for choosing. By the same search: the coordinate of z, the neuron of the next layer's MLP and the
       principal direction of z that say it best.
    4. On other prompts: direct feature attribution, the share of the feature's positive contributions that comes from the token
       after the previous occurrence. Controls: from another of the first time's words; of random directions.
    5. On the same prompts: take the feature's part off z at the place where the word is to be said; coordinates, neurons and
       principal directions are set to their means. What counts is the share of copies that are no longer made. Controls, at
       the same places and of the same length: random directions, and the other latents that are active there.

Letters: n rows, d width, m columns, w words, p places.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from actscope.core.progress import Progress, quiet
from actscope.core.reproduction import Reproduction
from actscope.core.site import Port, Site
from actscope.core.subject import Subject
from actscope.dictionaries.attention_sae import AttentionSAE
from actscope.organisms.grammar import grammar
from actscope.reproductions._parts.copies import Copies, copies, said
from actscope.reproductions._parts.seeds import beyond, gathered, means
from actscope.scores._parts.columns import Columns
from actscope.scores._parts.detectors import Detector, best_detectors, f1
from actscope.stores.capture import capture
from actscope.subjects.load import load
from actscope.training.fit import fit
from actscope.training.plan import Plan

__all__ = ["attn_sae"]

CLAIM = (
    "Direct feature attribution puts at least 80% of an induction feature on the token after the previous occurrence, and "
    "ablating it loses more copies than ablating the top neuron or principal direction."
)
BAR = 0.8
RIVALS = ("coordinate", "neuron", "principal direction")
CONTROLS = ("random", "another latent")
ENOUGH = 4  # places a word needs, for choosing and for judging


def attn_sae(
    *,
    seeds: Sequence[int] = (0, 1, 2),
    tokens: int = 100_000,
    rows: int = 2_400_000,
    latents: int = 512,
    k: int = 3,
    prompts: int = 300,
    words: int = 24,
    places: int = 10,
    draws: int = 20,
    full: bool = False,
    progress: Progress = quiet,
) -> Reproduction:
    """Induction features of an attention-output autoencoder, attributed and ablated (Kissane et al. 2024, arXiv:2406.17759).

    seeds: of documents, autoencoder, prompts and words. tokens: captured; rows: seen in training; latents, k: of the
    autoencoder. prompts: to choose on, and as many others to judge on. words: drawn; places: at most, of each, judged; draws:
    random directions a place. full: five seeds. holds: in every seed the share attributed reaches its bar, and over seeds
    (95%, Student's t) the feature loses more copies than every rival and both controls.
    """
    began = time.monotonic()
    if full:
        seeds = tuple(range(5))
    subject = load("pocket")
    found: list[dict[str, float]] = []
    for number, seed in enumerate(seeds):
        progress(number, len(seeds), f"seed {seed}")
        trained = _trained(subject, seed, tokens, rows, latents, k, prompts)
        found.append({**trained.described, **_judged(subject, trained, words, places, draws, seed)})
    progress(len(seeds), len(seeds), "seeds")
    figures = gathered(found)
    mean = means(figures)
    best = max(RIVALS, key=lambda rival: mean[f"lost by {rival}"])
    against = [figures[f"lost by {name}"] for name in (*RIVALS, *CONTROLS)]
    holds = min(figures["attributed to source"]) >= BAR and beyond(figures["lost by feature"], *against)
    return Reproduction(
        "attn-sae", CLAIM, mean["lost by feature"], mean[f"lost by {best}"], mean["lost by random"], "share of copies lost",
        tuple(seeds), holds, time.monotonic() - began, figures,
        {"subject": subject.fingerprint, "corpus": grammar(seeds[0], 100_000, rules=["induction"]).fingerprint},
    )  # fmt: skip


@dataclass(frozen=True)
class _Family:
    """Directions among which one is looked for: at a site, `values` of every row are what ablation takes off."""

    name: str
    site: Site
    atoms: Float[Tensor, "m d"]
    values: Float[Tensor, "n m"]  # on the prompts to choose on, then on those to judge on


@dataclass(frozen=True)
class _Trained:
    """An autoencoder, the prompts, and what every family of directions says of their tokens."""

    sae: AttentionSAE
    choose: Copies
    judge: Copies
    families: tuple[_Family, ...]  # the autoencoder's own first
    described: dict[str, float]

    def row_of(self, these: Copies) -> Int[Tensor, " p"]:
        """The rows of `values` that places of `choose` or of `judge` have."""
        before = 0 if these.inputs is self.choose.inputs else int(self.choose.inputs.mask.sum())  # type: ignore[union-attr]
        mask = these.inputs.mask
        assert mask is not None
        number = torch.full(mask.shape, -1)
        number[mask] = torch.arange(int(mask.sum()))
        return before + number[these.row, these.place]


@torch.no_grad()
def _trained(subject: Subject, seed: int, tokens: int, rows: int, latents: int, k: int, prompts: int) -> _Trained:
    choose, seen = copies(subject, prompts, seed=f"choose {seed}")
    judge, _ = copies(subject, prompts, seed=f"judge {seed}", without=seen)
    layer, attention = _layer(subject, choose)
    z = Site("z", layer)
    shape = subject.sites[z].shape
    store = capture(subject, grammar(seed, 100_000, rules=["induction"]), [z], tokens=tokens)
    sae = AttentionSAE(reads=store.ports, n_latents=latents, heads=int(shape[2]), k=k, seed=seed)
    with torch.enable_grad():
        fit(sae, store, Plan(rows=rows, batch=1024, seed=seed))
    after = Site("mlp_post", layer + 1)
    acts = [subject.run(one.inputs, read=[z, after]).acts for one in (choose, judge)]
    x, neurons = (
        torch.cat([part[site][one.inputs.mask].flatten(1) for part, one in zip(acts, (choose, judge), strict=True)])
        for site in (z, after)
    )
    sample = next(store.batches([Port(z)], min(len(store), 20_000), seed=seed)).acts[Port(z)]
    axes = torch.linalg.eigh(torch.cov((sample - sample.mean(0)).T))[1].T
    codes = sae.encode(x)
    families = (
        _Family("feature", z, sae.atoms[sae.write], codes.dense()),
        _Family("coordinate", z, torch.eye(x.shape[1]), x - sample.mean(0)),
        _Family("neuron", after, torch.eye(neurons.shape[1]), neurons - neurons.mean(0)),
        _Family("principal direction", z, axes, (x - sample.mean(0)) @ axes.T),
    )
    missed = (x - sae.decode(codes)[sae.write]).square().sum() / (x - x.mean(0)).square().sum()
    described = {"layer": float(layer), "attention to source": attention, "unexplained": float(missed)}
    return _Trained(sae, choose, judge, families, described)


def _layer(subject: Subject, these: Copies) -> tuple[int, float]:
    """(the layer of the head that attends most to the source, how much it does)."""
    patterns = [site for site in subject.sites if site.kind == "attn_pattern"]
    acts = subject.run(these.inputs, read=patterns).acts
    most = {site: acts[site][these.row, :, these.place, these.source].mean(0).max() for site in patterns}
    best = max(most, key=lambda site: float(most[site]))
    assert best.layer is not None
    return best.layer, float(most[best])


@torch.no_grad()
def _judged(subject: Subject, trained: _Trained, words: int, places: int, draws: int, seed: int) -> dict[str, float]:
    """Steps 3 to 5."""
    draw = torch.Generator().manual_seed(seed)
    chosen = _words(trained, words, draw)
    picked = torch.cat([(trained.judge.word == word).nonzero()[:places, 0] for word in chosen])
    these = trained.judge.select(picked)
    here = trained.row_of(these)
    number = {int(word): place for place, word in enumerate(chosen)}
    which = torch.tensor([number[int(word)] for word in these.word])
    right, chance = said(subject, these)
    found = {"copies made": float(right.float().mean()), "places": float(len(these))}
    changes = {}
    for family in trained.families:
        detectors = _detectors(trained, family, chosen)
        column = torch.tensor([one.column for one in detectors])[which]
        changes[family.name] = -family.values[here, column][:, None] * family.atoms[column]
        after, later = said(subject, these, family.site, changes[family.name])
        found[f"F1 of {family.name}"] = _f1(trained, family, detectors, chosen)
        found[f"lost by {family.name}"] = float((right.float() - after.float()).mean())
        found[f"nats lost by {family.name}"] = float((chance - later).mean())
        if family.name == "feature":
            size = changes["feature"].norm(dim=1, keepdim=True)
            found |= _attributed(subject, trained.sae, these, column, family.values[here, column] > 0, seed)
            found |= _controls(subject, these, family, family.values[here], column, size, draws, draw)
    longer = functional.normalize(changes["principal direction"], dim=1) * changes["feature"].norm(dim=1, keepdim=True)
    after, _ = said(subject, these, trained.sae.read.site, longer)
    found["lost by principal direction at the feature's length"] = float((right.float() - after.float()).mean())
    return found


def _words(trained: _Trained, words: int, draw: torch.Generator) -> list[int]:
    """Words drawn among those with places enough in both sets of prompts."""
    size = int(max(trained.choose.word.max(), trained.judge.word.max())) + 1
    counts = torch.stack([one.word.bincount(minlength=size) for one in (trained.choose, trained.judge)])
    able = (counts.min(0).values >= ENOUGH).nonzero()[:, 0]
    return able[torch.randperm(len(able), generator=draw)[:words]].tolist()


def _truth(trained: _Trained, these: Copies, chosen: Sequence[int]) -> Bool[Tensor, "w n"]:
    """On every row, whether each word is to be copied there."""
    rows = trained.row_of(these)
    truth = torch.zeros(len(chosen), len(trained.families[0].values), dtype=torch.bool)
    for number, word in enumerate(chosen):
        truth[number, rows[these.word == word]] = True
    return truth


def _parts(trained: _Trained) -> tuple[slice, slice]:
    """Rows of the prompts to choose on, and of those to judge on."""
    assert trained.choose.inputs.mask is not None
    edge = int(trained.choose.inputs.mask.sum())
    return slice(0, edge), slice(edge, None)


def _detectors(trained: _Trained, family: _Family, chosen: Sequence[int]) -> list[Detector]:
    part, _ = _parts(trained)
    values = family.values[part]
    columns = Columns(torch.zeros(len(values), 2, dtype=torch.long), values.shape[1], dense=values)
    return best_detectors(columns, _truth(trained, trained.choose, chosen)[:, part], candidates=8)


def _f1(trained: _Trained, family: _Family, detectors: Sequence[Detector], chosen: Sequence[int]) -> float:
    """On the prompts to judge on, mean over words."""
    _, part = _parts(trained)
    truth = _truth(trained, trained.judge, chosen)[:, part]
    yes = torch.stack([one.says(family.values[part, one.column]) for one in detectors])
    return float(f1((yes & truth).sum(1).float(), yes.sum(1), truth.sum(1)).mean())


def _attributed(
    subject: Subject, sae: AttentionSAE, these: Copies, latent: Int[Tensor, " p"], active: Bool[Tensor, " p"], seed: int
) -> dict[str, float]:
    """Step 4, mean over the places at which a feature is active."""
    random = AttentionSAE(reads=sae.reads, n_latents=sae.n_latents, heads=sae.heads, k=1, seed=seed + 1000)
    shares: dict[str, list[Tensor]] = {"source": [], "another word": [], "source in a random direction": []}
    for one in latent[active].unique().tolist():
        some = these.select((latent == one) & active)
        each = torch.arange(len(some))
        feature, chance = (
            which.by_source(subject, some.documents(), one)[each, :, some.place].sum(1).clamp(min=0) for which in (sae, random)
        )
        for name, given, at in zip(shares, (feature, feature, chance), (some.source, some.other, some.source), strict=True):
            shares[name].append(given[each, at] / given.sum(1).clamp(min=torch.finfo(given.dtype).tiny))
    return {f"attributed to {name}": float(torch.cat(parts).mean()) for name, parts in shares.items()}


def _controls(
    subject: Subject, these: Copies, family: _Family, codes: Float[Tensor, "p m"], own: Int[Tensor, " p"],
    size: Float[Tensor, "p 1"], draws: int, draw: torch.Generator,
) -> dict[str, float]:  # fmt: skip
    """Step 5's: the share of copies lost to random directions, and to the other latents that are active, of the same length."""
    right = said(subject, these)[0].float()
    lost = torch.zeros(len(these))
    for _ in range(draws):
        random = functional.normalize(torch.randn(len(these), family.atoms.shape[1], generator=draw), dim=1)
        lost += right - said(subject, these, family.site, random * size)[0].float()
    others, made = codes.clone(), 0
    others[torch.arange(len(these)), own] = 0
    by_others = 0.0
    for rank in range(int((others > 0).sum(1).max())):
        value, latent = others.topk(rank + 1, dim=1).values[:, -1], others.topk(rank + 1, dim=1).indices[:, -1]
        there = value > 0
        change = -functional.normalize(family.atoms[latent], dim=1) * size
        fewer = right - said(subject, these, family.site, change)[0].float()
        by_others, made = by_others + float(fewer[there].sum()), made + int(there.sum())
    return {"lost by random": float(lost.mean()) / draws, "lost by another latent": by_others / max(made, 1)}
