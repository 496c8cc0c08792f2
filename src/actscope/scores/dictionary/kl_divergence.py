"""How far the model's predictions move when it runs on a dictionary's reconstruction (SAEBench's core measures, Karvonen et al.
2025, arXiv:2503.09532)."""

from collections.abc import Iterable

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.scores._parts.splices import RUNS, Splices
from actscope.scores._parts.totals import totals_interval

__all__ = ["kl_divergence"]


def kl_divergence(
    dictionary: Dictionary,
    subject: Subject,
    store: Store,
    *,
    documents: Iterable[int] | None = None,
    splices: Splices | None = None,
    seed: int = 0,
) -> Score:
    """The share of the divergence that putting the mean at a site causes, that the dictionary's reconstruction there avoids.

    With K the Kullback-Leibler divergence, in nats per token, from the model's next-token distribution as it is to that with
    a replacement made (the runs of `cross_entropy`):

        value = 1 - K_spliced / K_mean      1: predictions do not move, 0: they move as much as with the mean

    Unlike the cross-entropy recovered it cannot be flattered by errors that happen to suit the text. parts: spliced, zero, mean
    (nats per token), recovered_zero (against zeros, as SAEBench has it). control: the mean, 0. n: tokens predicted. Interval:
    bootstrap over documents. documents: only these. splices: the pass, when measures share one.
    Raises WrongSubject, BadInput when putting the mean there moves nothing, NotFinite.
    """
    splices = Splices.of(dictionary, subject, store, documents) if splices is None else splices
    tokens = float(splices.tokens.sum())
    nats = dict(zip(RUNS, (splices.divergence.sum(0) / tokens).tolist(), strict=True))
    if nats["mean"] <= 0:
        sites = ", ".join(map(str, dictionary.writes))
        raise BadInput(
            f"Putting the mean at {sites} moves no prediction, so there is nothing to keep; score a site that matters."
        )
    parts = {run: nats[run] for run in RUNS[1:]}
    if nats["zero"] > 0:
        parts["recovered_zero"] = 1 - nats["spliced"] / nats["zero"]
    return Score(
        name="kl_divergence",
        definition="kl_recovered@1",
        value=1 - nats["spliced"] / nats["mean"],
        unit="share of the mean-ablation divergence",
        better="higher",
        n=int(tokens),
        interval=totals_interval(splices.divergence, lambda total: 1 - total[:, 1] / total[:, 3], seed=seed),
        control=0.0,
        parts=parts,
    )
