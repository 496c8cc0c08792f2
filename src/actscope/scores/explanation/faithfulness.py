"""Faithfulness: does steering with a latent bring about what its explanation says? Puri et al. 2025, "FADE: Why Bad
Descriptions Happen to Good Features" (arXiv:2502.16994).

    1. At places of natural text set off the latent by factors of its largest activation: value = factor * peak.
    2. Draw next tokens; c(factor) is the share that hold what is explained, as the judge says; c(0) without steering.
    3. The score is  (max over factors of c - c(0)) / (1 - c(0)),  at least 0: the share of what was missing that the best
       factor brings about.
    4. The same with random directions of the same lengths: the largest of several is above 0 by chance alone.

The factors are those of the authors' code. They draw continuations of 30 tokens and rate each whole; here one token is drawn
and judged, so that an explanation that names half of what comes is worth half, where any of 30 tokens would do. As there, a
latent whose explanation is about its input has nothing to show here.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput, Interrupted
from actscope.core.explanation import Explanation
from actscope.core.judge import Judge, by_rule
from actscope.core.progress import stop_requested
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.scores._parts.bootstrap import by_document, interval, resample
from actscope.scores._parts.judging import partners, reading_of
from actscope.scores._parts.reading import Reading
from actscope.scores._parts.steering import Places, check_reaches, random_units

__all__ = ["faithfulness"]


def faithfulness(
    explanations: Sequence[Explanation],
    dictionary: Dictionary,
    subject: Subject,
    store: Store,
    *,
    judge: Judge = by_rule,
    documents: Iterable[int] | None = None,
    reading: Reading | None = None,
    factors: Sequence[float | int] = (-50, -10, -1, 1, 10, 50),
    places: int = 50,
    samples: int = 8,
    window: int = 32,
    controls: int = 5,
    others: int = 3,
    draws: int = 2000,
    seed: int = 0,
) -> Mapping[int, Score]:
    """The share of what was missing that the best of some strengths of steering brings about (arXiv:2502.16994).

    factors: of the latent's largest activation on `documents`; added along its direction where it writes, at `places`
    random places. control: `controls` random directions, the same lengths and the same maximum, mean. interval: bootstrap
    over documents, the maximum taken anew in each. parts: over_control_low, over_control_high: of value - control; other:
    judged by `others` explanations of other latents, with over_other_low, over_other_high; unsteered: c(0); best: the best
    factor; judged; unanswered. Returns latent -> Score; a latent that never fires there, or without an answer at some
    factor, has none. Raises BadInput for no factors or where random directions move no logit, WrongSubject, Interrupted.
    """
    if not factors or 0 in factors:
        raise BadInput(f"factors={tuple(factors)} given; expected one or more, none of them 0, which is always measured.")
    reading = reading_of(dictionary, subject, store, documents, reading)
    inside = reading.text.where[:, 0].unique().tolist()
    at = Places.of(subject, dictionary.write.site, store, inside, places, least=4, seed=seed)
    check_reaches(at)
    atoms = dictionary.atoms[dictionary.write].detach().float().cpu()
    weights = resample(int(at.document.max()) + 1, draws=draws, seed=seed)
    scale = torch.tensor([0.0, *factors])
    found = {}
    for explanation, ring in zip(explanations, partners(explanations, others, seed=seed), strict=True):
        if stop_requested():
            raise Interrupted("Stopped while steering; nothing of this score is kept. Run the same command again.")
        _, values = reading.active(explanation.latent)
        if not len(values):
            continue
        length = float(values.max()) * float(atoms[explanation.latent].norm())
        chance = random_units(controls, atoms.shape[1], seed=seed + 1 + explanation.latent)
        units = torch.cat([normalize(atoms[[explanation.latent]], dim=1), chance])
        tokens = torch.stack([at.drawn(length * scale[:, None] * unit, samples) for unit in units], 1)  # [p u v s]
        told = at.told(judge, explanation, tokens.flatten(1, 2), window).view(tokens.shape)
        theirs = [at.told(judge, explanations[other], tokens[:, 0], window) for other in ring]
        sides = [_shares(one, at, weights) for one in (*told.unbind(1), *theirs)]
        if not sides[0].isfinite().all():
            continue
        found[explanation.latent] = _score(sides, controls, scale, told)
    return found


def _shares(told: Float[Tensor, "p v s"], at: Places, weights: Float[Tensor, "r g"]) -> Float[Tensor, "r1 v"]:
    """The share of yes with each factor: first over all, then in every resample of documents."""
    known = told.isfinite()
    yes, _ = by_document(((told > 0.5) & known).double().sum(2), at.document)
    asked, _ = by_document(known.double().sum(2), at.document)
    every = torch.cat([torch.ones(1, weights.shape[1], dtype=torch.float64), weights])
    return (every @ yes) / (every @ asked)


def _gain(share: Float[Tensor, "r v"]) -> Float[Tensor, " r"]:
    return (share[:, 1:].amax(1) - share[:, 0]).clamp_min(0) / (1 - share[:, 0]).clamp_min(1e-9)


def _score(sides: list[Tensor], controls: int, scale: Tensor, told: Tensor) -> Score:
    gains = torch.stack([_gain(side) for side in sides])  # own, random directions, other explanations
    own, random, other = gains[0], gains[1 : 1 + controls].nanmean(0), gains[1 + controls :].nanmean(0)
    parts = {
        "unsteered": float(sides[0][0, 0]),
        "best": float(scale[1 + int(sides[0][0, 1:].argmax())]),
        "judged": float(told.numel()),
        "unanswered": float(told[:, 0].isnan().sum()),
    }
    parts["over_control_low"], parts["over_control_high"] = interval((own - random)[1:])
    if len(sides) > 1 + controls:
        parts["other"] = float(other[0])
        parts["over_other_low"], parts["over_other_high"] = interval((own - other)[1:])
    return Score(
        name="faithfulness", definition="faithfulness@1", value=float(own[0]), unit="share", better="higher",
        n=told[:, 0].numel(), interval=interval(own[1:]), control=float(random[0]), parts=parts,
    )  # fmt: skip
