"""What the model loses when it runs on a dictionary's reconstruction."""

from collections.abc import Iterable

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.scores._parts.splices import RUNS, Splices
from actscope.scores._parts.totals import totals_interval

__all__ = ["cross_entropy"]


def cross_entropy(
    dictionary: Dictionary,
    subject: Subject,
    store: Store,
    *,
    documents: Iterable[int] | None = None,
    splices: Splices | None = None,
    seed: int = 0,
) -> Score:
    """The share of the next-token loss at stake at a site that survives when the dictionary's reconstruction stands there.

    The model runs as it is (clean), and with the dictionary's output, zeros and the mean of the store's rows in place of the
    text tokens' values; see scores/_parts/splices.py. With C the cross-entropy in nats per token of text whose successor is
    text of the same document:

        value = (C_mean - C_spliced) / (C_mean - C_clean)      1: nothing lost, 0: no better than the mean

    parts: clean, spliced, zero, mean (nats per token), recovered_zero (the same share against zeros, where zeros cost
    something). n: tokens predicted. Interval: bootstrap over documents. documents: only these. splices: the pass, when
    measures share one. Raises WrongSubject, BadInput when putting the mean there costs nothing, so that there is no share to
    speak of, NotFinite.
    """
    splices = Splices.of(dictionary, subject, store, documents) if splices is None else splices
    tokens = float(splices.tokens.sum())
    nats = dict(zip(RUNS, (splices.loss.sum(0) / tokens).tolist(), strict=True))
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
        interval=totals_interval(
            splices.loss, lambda total: (total[:, 3] - total[:, 1]) / (total[:, 3] - total[:, 0]), seed=seed
        ),
        control=0.0,
        parts=parts,
    )
