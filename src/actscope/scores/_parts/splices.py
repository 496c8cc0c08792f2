"""One pass of a model over a store's text with a dictionary's output in its place: what measures of lost behaviour share.

Letters: b sequences, t tokens, g documents.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput, Interrupted, NotFinite, WrongSubject
from actscope.core.inputs import Inputs, predicted_text, real_text
from actscope.core.intervention import At, Intervention, Replace, Splice, Zero, flatten
from actscope.core.progress import stop_requested
from actscope.core.site import Site
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.scores._parts.census import port_means
from actscope.scores._parts.totals import document_sums

_LOGITS = 1 << 25  # numbers in one batch's logits
RUNS = ("clean", "spliced", "zero", "mean")


@dataclass(frozen=True)
class Splices:
    """Sums by document over tokens of text whose successor is text of the same document, in nats.

    The model runs four times: as it is (clean), with the dictionary's output in place of the values at the sites it writes
    (spliced), with zeros there, and with their mean over the store's rows. Every replacement is made at tokens of text only;
    special tokens and padding keep their values. A transcoder is judged where it writes, from what it reads in the same run.
    """

    loss: Float[Tensor, "g 4"]  # cross-entropy of every run
    divergence: Float[Tensor, "g 4"]  # from the clean run's next-token distribution to every run's
    tokens: Float[Tensor, " g"]

    @staticmethod
    def of(dictionary: Dictionary, subject: Subject, store: Store, documents: Iterable[int] | None = None) -> "Splices":
        """Run the model over the store's sequences, or those of `documents`.

        Raises WrongSubject, BadInput for a model without a next-token loss or text without successors, NotFinite.
        """
        _check(dictionary, subject, store)
        documents = None if documents is None else list(documents)
        means = _means(dictionary, subject, store, documents)
        document, nats = [], []
        with torch.no_grad():
            for inputs, first in store.sequences(batch_of(subject), documents):
                if stop_requested():
                    raise Interrupted("Stopped while scoring; nothing was to be saved. Run the same command again.")
                predicts = predicted_text(inputs)
                here = inputs.document if inputs.document is not None else first[:, :1].expand_as(predicts)
                nats.append(_nats(subject, inputs, _writes(dictionary, inputs, means), predicts))
                document.append(here[:, :-1][predicts[:, :-1]])
        if not sum(map(len, nats)):
            raise BadInput("No token of text follows another in the documents asked for; expected longer documents.")
        sums = document_sums(torch.cat(nats), torch.cat(document))
        if not bool(torch.isfinite(sums).all()):
            raise NotFinite(
                f"The loss of {subject.name} is not finite with this dictionary; fit it again, or check the weights."
            )
        return Splices(sums[:, :4], sums[:, 4:8], sums[:, 8])


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


def batch_of(subject: Subject) -> int:
    """Sequences at a time."""
    vocabulary = subject.sites[Site("logits")].width
    return max(1, min(64, _LOGITS // (vocabulary * subject.context)))


def _writes(dictionary: Dictionary, inputs: Inputs, means: Mapping[Site, Tensor]) -> Iterator[list[Intervention]]:
    """What is written in each of the four runs, in the order of RUNS."""
    real = real_text(inputs)
    yield []
    yield [At(inner, real) for inner in flatten([Splice(dictionary, keep_error=False)])]
    yield [At(Zero(site), real) for site in means]
    yield [At(Replace(site, mean), real) for site, mean in means.items()]


def _nats(
    subject: Subject, inputs: Inputs, writes: Iterable[list[Intervention]], predicts: Bool[Tensor, "b t"]
) -> Float[Tensor, "tokens 9"]:
    """At every predicted place, in reading order: losses, divergences, 1."""
    assert inputs.ids is not None
    target: Int[Tensor, " tokens"] = inputs.ids[:, 1:][predicts[:, :-1]].long()
    losses, divergences = [], []
    clean: Tensor | None = None
    for write in writes:
        logits = subject.run(inputs, write=write).logits
        assert logits is not None
        said: Float[Tensor, "tokens vocab"] = logits[predicts].float().log_softmax(-1)
        clean = said if clean is None else clean
        losses.append(functional.nll_loss(said, target.to(said.device), reduction="none").double())
        divergences.append((clean.exp() * (clean - said)).sum(-1).double())
    return torch.stack([*losses, *divergences, torch.ones_like(losses[0])], dim=1).cpu()
