"""Intervention: can the effect of steering with a latent be told from its explanation? Paulo, Mallen, Juang and Belrose 2024,
"Automatically Interpreting Millions of Features in Large Language Models" (arXiv:2410.13928), intervention scoring.

    1. In sequences of natural text in which the latent fires, where it first does so, add its direction where it writes:
       `factor` times as much as its largest activation there.
    2. Draw next tokens with and without it.
    3. Ask a judge of each drawn token, given the explanation alone, whether it is what the explanation speaks of. The score
       is the balanced accuracy at telling tokens drawn with it from tokens drawn without.
    4. At these places the same with random directions, and with other latents' directions, of the same length.

The question and the places (appendix G.1) are the paper's; two things are not. The strength is the latent's own, as many steer
(FADE, arXiv:2502.16994; AxBench, arXiv:2501.17148): what does it do in about the range in which it works? One that does little
there gets little. The paper adds to every latent what moves the next token by the same `kl` nats, on average over the contexts
that are judged (give kl= for that), which asks which of two effects of one size is easier to tell: a random direction, far
outside its range, has an effect too. And the paper's scorer is a language model, which says how much likelier the explanation
became by reading the continuation; a judge of single tokens stands in its place, and 0.5 + half of the rise in the judge's yes
is what comes out.

The explanation must speak of the output: of tokens that come next, such as `promoted` finds. With where="anywhere" the places
are drawn at random, the same for all latents, in place of those where the latent fires.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from actscope.core.dictionary import Dictionary
from actscope.core.errors import Interrupted
from actscope.core.explanation import Explanation
from actscope.core.judge import Judge, by_rule
from actscope.core.progress import stop_requested
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.scores._parts.agreement import Pairs, balanced_accuracy, over, permuted_values, plain
from actscope.scores._parts.bootstrap import interval, resample
from actscope.scores._parts.judging import partners
from actscope.scores._parts.reading import Reading, check_subject
from actscope.scores._parts.steering import Places, random_units, steering_of

__all__ = ["intervention"]


def intervention(
    explanations: Sequence[Explanation],
    dictionary: Dictionary,
    subject: Subject,
    store: Store,
    *,
    judge: Judge = by_rule,
    documents: Iterable[int] | None = None,
    reading: Reading | None = None,
    where: str = "firing",
    places: int = 100,
    samples: int = 8,
    factor: float = 2.0,
    kl: float | None = None,
    window: int = 32,
    controls: int = 5,
    others: int = 3,
    permutations: int = 20,
    draws: int = 2000,
    seed: int = 0,
) -> Mapping[int, Score]:
    """Balanced accuracy at telling steered next tokens from unsteered ones by each explanation (arXiv:2410.13928).

    At `places` places, from as many documents as there are, `samples` next tokens are drawn with the latent's direction
    added and as many without, at the same chances; chance is 0.5. where: "firing", where the latent first fires in a
    sequence, or "anywhere". factor: of the largest activation on the documents. kl: in its place, the nats by which the next
    token is to move, at the first 24 places and by at most 8 times the norm of what stands there. reading: the documents
    encoded, in place of `documents`. window: tokens before a drawn one that the judge reads.

    control: the same with `controls` random directions of the same length, mean. interval: of the value, bootstrap over
    documents. parts: over_random_low, over_random_high: the interval of value - control; permuted: with the labels permuted,
    mean; other: judged by `others` explanations of other latents, and over_other_low, over_other_high; other_direction: with
    other latents' directions of the same length; steered, unsteered: the judge's yes; kl: how far the next token moved;
    length: of what is added; places; judged: tokens asked about; unanswered. Returns latent -> Score; none for one without an
    answered token on a side, one that never fires (but with kl), or one to be steered where it first fires that does so in
    fewer than 8 sequences. Raises BadInput (another `where`, factor=0, a site that moves no logit), WrongSubject, Interrupted.
    """
    check_subject(dictionary, subject, store)
    given, found = {"factor": factor, "kl": kl, "seed": seed, "reading": reading}, {}
    steering = steering_of(dictionary, subject, store, documents, where, places, **given)
    atoms = normalize(dictionary.atoms[dictionary.write].detach().float().cpu(), dim=1)
    for explanation, ring in zip(explanations, partners(explanations, others, seed=seed), strict=True):
        if stop_requested():
            raise Interrupted("Stopped while steering; nothing of this score is kept. Run the same command again.")
        if (steered := steering(explanation.latent)) is None:
            continue
        at, unit, length, reached = steered
        chance = random_units(controls, len(unit), seed=seed + 1 + explanation.latent)
        units = [torch.zeros(1, len(unit)), unit[None], chance, atoms[[explanations[other].latent for other in ring]]]
        tokens = at.drawn(length * torch.cat(units), samples)
        told = at.told(judge, explanation, tokens, window)
        if told[:, :2].isfinite().any(2).any(0).all():
            parts = {"kl": reached, "length": length, "places": float(len(at)), **_asked(told)}
            own, *sides = (_pairs(told, variant, at) for variant in range(1, tokens.shape[1]))
            theirs = [_pairs(at.told(judge, explanations[other], tokens[:, :2], window), 1, at) for other in ring]
            found[explanation.latent] = _score(
                own, sides[:controls], sides[controls:], theirs, resample(int(at.document.max()) + 1, draws=draws, seed=seed),
                permutations, seed + explanation.latent, parts,
            )  # fmt: skip
    return found


def _asked(told: Float[Tensor, "p v s"]) -> dict[str, float]:
    """The share of yes without and with the latent's direction, of the answers there are, and how many were asked for."""
    known = told[:, :2].isfinite()
    shares = ((told[:, :2] > 0.5) & known).float().sum((0, 2)) / known.float().sum((0, 2))
    return {
        "unsteered": float(shares[0]),
        "steered": float(shares[1]),
        "unanswered": float((~known).sum()),
        "judged": float(told.numel()),
    }


def _pairs(told: Float[Tensor, "p v s"], variant: int, at: Places) -> Pairs:
    """A variant's answers against those without anything added."""
    both = torch.cat([told[:, variant], told[:, 0]], 1)
    truth = torch.zeros_like(both)
    truth[:, : told.shape[2]] = 1
    document = at.document[:, None].expand_as(both)
    return Pairs(both.flatten(), truth.flatten(), document.flatten()).answered()


def _score(
    own: Pairs, random: list[Pairs], along: list[Pairs], theirs: list[Pairs], weights: Tensor, permutations: int, seed: int,
    parts: dict[str, float],
) -> Score:  # fmt: skip
    resampled = over(balanced_accuracy, own, weights)
    means = {}
    for name, these in (("random", random), ("other_direction", along), ("other", theirs)):
        if these:
            means[name] = float(torch.stack([plain(balanced_accuracy, one) for one in these]).nanmean())
        if these and name != "other_direction":
            beyond = resampled - torch.stack([over(balanced_accuracy, one, weights) for one in these]).nanmean(0)
            parts[f"over_{name}_low"], parts[f"over_{name}_high"] = interval(beyond)
    parts |= {name: value for name, value in means.items() if name != "random"}
    parts["permuted"] = float(permuted_values(balanced_accuracy, own, permutations, seed).mean())
    parts["documents"] = float(len(own.document.unique()))
    return Score(
        name="intervention", definition="intervention@3", value=float(plain(balanced_accuracy, own)), unit="balanced accuracy",
        better="higher", n=len(own.told), interval=interval(resampled), control=means.get("random"), parts=parts,
    )  # fmt: skip
