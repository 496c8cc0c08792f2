"""Several corpora read as one, in given shares."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from actscope.core.corpus import Corpus, Document
from actscope.core.errors import EmptyCorpus, UsageError

__all__ = ["mixture"]


@dataclass(frozen=True)
class Mixture:
    """A corpus: which part gives document i is drawn from (seed, i); each part gives its documents in its own order."""

    parts: tuple[tuple[Corpus, float], ...]
    seed: int

    @property
    def name(self) -> str:
        return "+".join(corpus.name for corpus, _ in self.parts)

    @property
    def fingerprint(self) -> str:
        told = [f"{corpus.fingerprint}:{share!r}" for corpus, share in self.parts]
        return hashlib.sha256("\n".join([str(self.seed), *told]).encode()).hexdigest()

    def documents(self, start: int = 0) -> Iterator[Document]:
        """The documents from number `start` on, until the part whose turn it is has no more."""
        random = Random(self.seed)
        shares = [share for _, share in self.parts]
        numbers = range(len(self.parts))
        taken = [0] * len(self.parts)
        for turn in random.choices(numbers, shares, k=start) if start else ():
            taken[turn] += 1
        readers = [corpus.documents(max(first - 1, 0)) for (corpus, _), first in zip(self.parts, taken, strict=True)]
        if any(first and next(reader, None) is None for reader, first in zip(readers, taken, strict=True)):
            return  # it ended before `start`
        while True:
            document = next(readers[random.choices(numbers, shares)[0]], None)
            if document is None:
                return
            yield document


def mixture(parts: Sequence[tuple[Corpus, float]], *, seed: int = 0) -> Mixture:
    """One corpus out of several, document by document in the shares given; it ends where the first of them does.

    Raises EmptyCorpus for no parts, UsageError for a share that is not above 0.
    """
    if not parts:
        raise EmptyCorpus("A mixture of no corpora; expected [(corpus, share), ...].")
    if any(share <= 0 for _, share in parts):
        raise UsageError(f"Shares {[share for _, share in parts]}; each must be above 0.")
    return Mixture(tuple(parts), seed)
