"""The verb `score`: every measure of a dictionary at once."""

import inspect
import warnings
from collections.abc import Iterable, Sequence

from actscope.core import methods
from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput
from actscope.core.labels import Labels
from actscope.core.progress import Progress, quiet
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.scores._parts.census import Census
from actscope.scores._parts.splices import Splices
from actscope.scores.dictionary.cross_entropy import cross_entropy
from actscope.scores.dictionary.dead_share import dead_share
from actscope.scores.dictionary.fvu import fvu
from actscope.scores.dictionary.kl_divergence import kl_divergence
from actscope.scores.dictionary.l0 import l0
from actscope.scores.dictionary.special_tokens import special_tokens
from actscope.scores.dictionary.truth_recovery import truth_recovery

__all__ = ["score"]

NOUNS = ("dictionary", "subject", "store", "labels", "others", "documents", "seed")


def score(
    dictionary: Dictionary,
    subject: Subject,
    store: Store,
    labels: Labels | None = None,
    *,
    documents: Iterable[int] | None = None,
    measures: Sequence[str] | None = None,
    others: Sequence[Dictionary] = (),
    seed: int = 0,
    progress: Progress = quiet,
    **settings: object,
) -> list[Score]:
    """Judge a dictionary on a store: fvu, l0, dead_share, cross_entropy, kl_divergence; special_tokens where the store has rows
    of them; and with `labels` truth_recovery. Or by `measures`, names of scores/dictionary, alone.

    Score on text the dictionary was not trained on. documents: only these; measures that choose something take their own halves
    of the store. others: what `stability` compares with. settings: those of the one measure named, such as forget= of
    `unlearning`. A measure that cannot be taken here (a site whose ablation costs nothing) is left out with a warning, unless
    it was asked for by name.
    Raises UnknownMethod, UnknownSite for ports the store lacks, WrongSubject, BadInput for no rows or for a measure that needs
    more than this, NotFinite, Interrupted.
    """
    documents = None if documents is None else list(documents)
    if settings and len(measures or ()) != 1:
        raise BadInput(f"{', '.join(settings)} given with {len(measures or ())} measures named; settings belong to one alone.")
    if measures is not None:
        given = {"dictionary": dictionary, "subject": subject, "store": store, "labels": labels, "others": others or None}
        given |= {"documents": documents, "seed": seed, **settings}
        found = []
        for number, name in enumerate(measures):
            found.append(_by_name(name, {key: value for key, value in given.items() if value is not None}))
            progress(number + 1, len(measures), name)
        return found
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
        splices = Splices.of(dictionary, subject, store, documents)
        scores.append(cross_entropy(dictionary, subject, store, splices=splices, seed=seed))
        scores.append(kl_divergence(dictionary, subject, store, splices=splices, seed=seed))
    except BadInput as error:
        if type(error) is not BadInput:  # WrongSubject, NotFinite...: nothing here can be trusted
            raise
        warnings.warn(str(error), stacklevel=2)
    progress(2, steps, "cross-entropy")
    if labels is not None:
        scores += [truth_recovery(dictionary, store, labels, seed=seed)]
        progress(3, steps, "truth")
    return scores


def _by_name(name: str, given: dict[str, object]) -> Score:
    """One measure, with those of the things given that it takes."""
    measure = methods.find("scores.dictionary", name)
    assert callable(measure), "the room holds functions"
    takes = inspect.signature(measure).parameters
    if unknown := [key for key in given if key not in takes and key not in NOUNS]:
        raise BadInput(f"The measure {name!r} has no {', '.join(unknown)}; it takes {', '.join(takes)}.")
    missing = [key for key, one in takes.items() if one.default is one.empty and key not in given]
    if missing:
        raise BadInput(
            f"The measure {name!r} needs {', '.join(missing)} as well; call actscope.scores.dictionary.{name} with it."
        )
    score = measure(**{key: value for key, value in given.items() if key in takes})
    assert isinstance(score, Score)
    return score
