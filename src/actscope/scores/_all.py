"""The verb `score`: every measure of a dictionary at once."""

import warnings
from collections.abc import Iterable

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput
from actscope.core.labels import Labels
from actscope.core.progress import Progress, quiet
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.scores._parts.census import Census
from actscope.scores.dictionary.cross_entropy import cross_entropy
from actscope.scores.dictionary.dead_share import dead_share
from actscope.scores.dictionary.fvu import fvu
from actscope.scores.dictionary.l0 import l0
from actscope.scores.dictionary.special_tokens import special_tokens
from actscope.scores.dictionary.truth_recovery import truth_recovery

__all__ = ["score"]


def score(
    dictionary: Dictionary,
    subject: Subject,
    store: Store,
    labels: Labels | None = None,
    *,
    documents: Iterable[int] | None = None,
    seed: int = 0,
    progress: Progress = quiet,
) -> list[Score]:
    """Judge a dictionary on a store: fvu, l0, dead_share, cross_entropy; special_tokens where the store has rows of them; and
    with `labels` truth_recovery.

    Score on text the dictionary was not trained on. documents: only these; truth recovery takes its own halves of the
    store. A measure that cannot be taken here (a site whose ablation costs nothing) is left out with a warning.
    Raises UnknownSite for ports the store lacks, WrongSubject, BadInput for no rows, NotFinite, Interrupted.
    """
    documents = None if documents is None else list(documents)
    steps = 2 if labels is None else 3
    census = Census.of(dictionary, store, documents)
    scores = [
        fvu(dictionary, store, census=census, seed=seed),
        l0(dictionary, store, census=census, seed=seed),
        dead_share(dictionary, store, census=census),
    ]
    if next(store.batches(list(dictionary.reads)[:1], 1)).roles is not None:
        scores.append(special_tokens(dictionary, store, documents=documents, seed=seed))
    progress(1, steps, "reconstruction")
    try:
        scores.append(cross_entropy(dictionary, subject, store, documents=documents, seed=seed))
    except BadInput as error:
        if type(error) is not BadInput:  # WrongSubject, NotFinite...: nothing here can be trusted
            raise
        warnings.warn(str(error), stacklevel=2)
    progress(2, steps, "cross-entropy")
    if labels is not None:
        scores += [truth_recovery(dictionary, store, labels, seed=seed)]
        progress(3, steps, "truth")
    return scores
