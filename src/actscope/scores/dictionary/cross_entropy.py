"""What the model loses when it runs on a dictionary's reconstruction."""

from collections.abc import Iterable, Iterator, Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput, Interrupted, NotFinite, WrongSubject
from actscope.core.inputs import Inputs, predicted_text, real_text
from actscope.core.intervention import At, Intervention, Replace, Splice, Zero, flatten
from actscope.core.progress import stop_requested
from actscope.core.score import Score
from actscope.core.site import Site
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.scores._parts.census import port_means
from actscope.scores._parts.totals import document_sums, totals_interval

__all__ = ["cross_entropy"]

_LOGITS = 1 << 25  # numbers in one batch's logits
_RUNS = ("clean", "spliced", "zero", "mean")


def cross_entropy(
    dictionary: Dictionary, subject: Subject, store: Store, *, documents: Iterable[int] | None = None, seed: int = 0
) -> Score:
    """The share of the next-token loss at stake at a site that survives when the dictionary's reconstruction stands there.

    The model runs four times over the store's sequences: as it is (clean), with the dictionary's output in place of the
    values at the sites it writes (spliced), with zeros there, and with their mean over the store's rows. Every
    replacement is made at tokens of text only; special tokens and padding keep their values. With C the cross-entropy
    in nats per token of text whose successor is text of the same document:

        value = (C_mean - C_spliced) / (C_mean - C_clean)      1: nothing lost, 0: no better than the mean

    A transcoder is judged where it writes, from what it reads in the same run. parts: clean, spliced, zero, mean (nats
    per token), recovered_zero (the same share against zeros, where zeros cost something). n: tokens predicted.
    Interval: bootstrap over documents. documents: only these.
    Raises WrongSubject, BadInput when putting the mean there costs nothing, so that there is no share to speak of,
    NotFinite.
    """
    _check(dictionary, subject, store)
    documents = None if documents is None else list(documents)
    means = _means(dictionary, subject, store, documents)
    document, loss = [], []
    with torch.no_grad():
        for inputs, first in store.sequences(_batch(subject), documents):
            if stop_requested():
                raise Interrupted("Stopped while scoring; nothing was to be saved. Run the same command again.")
            predicts = predicted_text(inputs)
            here = inputs.document if inputs.document is not None else first[:, :1].expand_as(predicts)
            runs = [_loss(subject, inputs, write, predicts) for write in _writes(dictionary, inputs, means)]
            loss.append(torch.stack([*runs, torch.ones_like(runs[0])], dim=1))
            document.append(here[:, :-1][predicts[:, :-1]])
    if not sum(map(len, loss)):
        raise BadInput("No token of text follows another in the documents asked for; expected longer documents.")
    sums = document_sums(torch.cat(loss), torch.cat(document))
    if not bool(torch.isfinite(sums).all()):
        raise NotFinite(f"The loss of {subject.name} is not finite with this dictionary; fit it again, or check the weights.")
    return _score(sums, dictionary, seed)


def _check(dictionary: Dictionary, subject: Subject, store: Store) -> None:
    if not subject.causal:
        raise BadInput(f"{subject.name} sees all tokens at once, so it has no loss of the next one; measure fvu instead.")
    aliases = {port.subject for port in [*dictionary.reads, *dictionary.writes]}
    if len(aliases) > 1:
        raise BadInput(f"The dictionary reads several models ({', '.join(sorted(aliases))}); the loss of one is measured.")
    found = {"store": store.subjects.get(aliases.pop(), ""), "dictionary": dictionary.subject}
    for what, fingerprint in found.items():
        if fingerprint and fingerprint != subject.fingerprint:
            raise WrongSubject(
                f"The {what} was made on a subject with fingerprint {fingerprint[:12]}; {subject.name} has "
                f"{subject.fingerprint[:12]}. Give the model it was made on, or make it again on this one."
            )


def _means(
    dictionary: Dictionary, subject: Subject, store: Store, documents: Iterable[int] | None
) -> dict[Site, Float[Tensor, "..."]]:
    """The mean over the store's rows at every site written, in the shape of the site's row."""
    means = {}
    for port, mean in port_means(store, dictionary.writes, documents).items():
        info = subject.sites.get(port.site)
        shape = (-1,) if info is None else tuple(info.shape[2:])
        means[port.site] = mean.float().reshape(shape)  # type: ignore[arg-type]
    return means


def _batch(subject: Subject) -> int:
    """Sequences at a time."""
    vocabulary = subject.sites[Site("logits")].width
    return max(1, min(64, _LOGITS // (vocabulary * subject.context)))


def _writes(dictionary: Dictionary, inputs: Inputs, means: Mapping[Site, Tensor]) -> Iterator[list[Intervention]]:
    """What is written in each of the four runs, in the order of _RUNS."""
    real = real_text(inputs)
    yield []
    yield [At(inner, real) for inner in flatten([Splice(dictionary, keep_error=False)])]
    yield [At(Zero(site), real) for site in means]
    yield [At(Replace(site, mean), real) for site, mean in means.items()]


def _loss(
    subject: Subject, inputs: Inputs, write: list[Intervention], predicts: Bool[Tensor, "b t"]
) -> Float[Tensor, " tokens"]:
    """Nats at every predicted place, in reading order."""
    logits = subject.run(inputs, write=write).logits
    assert logits is not None and inputs.ids is not None
    kept: Float[Tensor, "tokens vocab"] = logits[predicts].float()
    target: Int[Tensor, " tokens"] = inputs.ids[:, 1:][predicts[:, :-1]].long().to(kept.device)
    return torch.nn.functional.cross_entropy(kept, target, reduction="none").double().cpu()


def _score(sums: Float[Tensor, "documents runs"], dictionary: Dictionary, seed: int) -> Score:
    tokens = float(sums[:, 4].sum())
    nats = dict(zip(_RUNS, (sums[:, :4].sum(0) / tokens).tolist(), strict=True))
    sites = ", ".join(map(str, dictionary.writes))
    if nats["mean"] <= nats["clean"]:
        raise BadInput(
            f"Putting the mean at {sites} costs nothing here ({nats['mean']:.4f} nats per token, {nats['clean']:.4f} as it "
            "is), so there is no loss to recover; score a site that matters, or more text."
        )
    parts = {**nats, "tokens": tokens}
    if nats["zero"] > nats["clean"]:
        parts["recovered_zero"] = (nats["zero"] - nats["spliced"]) / (nats["zero"] - nats["clean"])
    return Score(
        name="cross_entropy",
        definition="cross_entropy_recovered@1",
        value=(nats["mean"] - nats["spliced"]) / (nats["mean"] - nats["clean"]),
        unit="share of the mean-ablation gap",
        better="higher",
        n=int(tokens),
        interval=totals_interval(sums, lambda total: (total[:, 3] - total[:, 1]) / (total[:, 3] - total[:, 0]), seed=seed),
        control=0.0,
        parts=parts,
    )
