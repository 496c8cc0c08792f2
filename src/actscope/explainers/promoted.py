"""Explain a latent by what it does: the next tokens that steering with it makes likelier. The output side of Paulo, Mallen,
Juang and Belrose 2024, "Automatically Interpreting Millions of Features in Large Language Models" (arXiv:2410.13928), whose
explainer is shown the tokens that an intervention promotes; no language model takes part here.

    1. The documents are split in three by a hash of their ids, as `rules` does; only the first part is used.
    2. In sequences in which the latent fires, where it first does so, add its direction where it writes, `factor` times as
       much as its largest activation there; or, with kl=, what moves the next token's distribution by so many nats on
       average, as the authors do. The places are theirs (appendix G.1): what comes next depends on what stands before, and a
       direction need not do the same everywhere. With where="anywhere" they are drawn at random, the same for all latents.
    3. Of the tokens whose probability rises at `steady` of the places or more, those it rises most for on average, down to
       `least` of the largest rise.

The explanation's rule speaks of the token that comes next, so `intervention` and `faithfulness` judge it; detection does not,
unless the latent also fires on the tokens that it promotes.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput, Interrupted
from actscope.core.explanation import Explanation
from actscope.core.predicate import TokenIn, named
from actscope.core.progress import Progress, quiet, stop_requested
from actscope.core.store import Store, split_documents
from actscope.core.subject import Subject
from actscope.scores._parts.reading import check_subject
from actscope.scores._parts.steering import Places, steering_of

__all__ = ["promoted"]

_RESOLUTION = 1e-6  # of a probability: what float32 logits resolve


def promoted(
    dictionary: Dictionary,
    subject: Subject,
    store: Store,
    *,
    latents: Sequence[int] | None = None,
    documents: Iterable[int] | None = None,
    places: int = 48,
    factor: float = 2.0,
    kl: float | None = None,
    where: str = "firing",
    tokens: int = 8,
    steady: float = 0.75,
    least: float = 0.1,
    seed: int = 0,
    progress: Progress = quiet,
) -> list[Explanation]:
    """The next tokens that each latent promotes, found by steering (arXiv:2410.13928).

    latents: which to explain (None: all). documents: which to use (None: all); of these the first of three parts is.
    places: how many, from as many documents as there are. factor: of the latent's largest activation on them. kl: in its
    place, nats by which the next token is moved, at the first 24 places. where: "firing", where the latent first fires in a
    sequence, or "anywhere". A latent that promotes no token at `steady` of the places, never fires (but with kl), or is to be
    steered where it fires and does so in fewer than 8 sequences behind the 4th token, is left out. evidence: "rises"
    ([token, mean rise of its probability]), "kl" (how far the next token moved at the first 24 places, in nats), "length" (of
    what was added), "places" (how many). Raises WrongSubject; BadInput for latents out of range, no documents, another
    `where`, factor=0, or where random directions move no logit.
    """
    check_subject(dictionary, subject, store)
    wanted = list(range(dictionary.n_latents)) if latents is None else list(latents)
    if wanted and not 0 <= min(wanted) <= max(wanted) < dictionary.n_latents:
        raise BadInput(f"Latents {min(wanted)} to {max(wanted)} asked for; the dictionary has 0 to {dictionary.n_latents - 1}.")
    propose = set(split_documents(store, 3, seed=seed)[0])
    inside = sorted(propose if documents is None else propose & set(documents))
    steering = steering_of(dictionary, subject, store, inside, where, places, factor=factor, kl=kl, seed=seed)
    found = []
    for number, latent in enumerate(wanted):
        if stop_requested():
            raise Interrupted(f"Stopped after {number} of {len(wanted)} latents; nothing was saved: run it again.")
        progress(number, len(wanted), "latents steered with")
        if (steered := steering(latent)) is None:
            continue
        at, unit, length, reached = steered
        rises = _rises(at, length * unit, steady)
        value, token = rises.topk(min(tokens, len(rises)))
        kept = value > torch.clamp(least * value[0], min=_RESOLUTION)
        if not kept.any():
            continue
        words = tuple(at.vocabulary[one] for one in token[kept].tolist())
        evidence = {"rises": [list(pair) for pair in zip(words, value[kept].tolist(), strict=True)], "kl": reached}
        evidence |= {"length": length, "places": len(at)}
        text = f"makes {named(words)} likelier to come next"
        found.append(Explanation(latent, text, "promoted", TokenIn(words), evidence))
    progress(len(wanted), len(wanted), "latents steered with")
    return found


def _rises(at: Places, added: Tensor, steady: float) -> Tensor:
    """By how much the probability of each token rises on average; 0 where it rises too seldom."""

    def rise(_: Tensor, logs: Tensor) -> Tensor:
        return logs[:, 1].exp() - logs[:, 0].exp()

    rises = at.each(torch.stack([torch.zeros_like(added), added]), rise)
    return torch.where((rises > 0).float().mean(0) >= steady, rises.mean(0), 0.0)
