"""The three document-disjoint splits of an explainer, encoded: propose and select to explain on, report to judge on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput
from actscope.core.explanation import Explanation
from actscope.core.score import Score
from actscope.core.store import Store, split_documents
from actscope.core.subject import Subject
from actscope.core.text import TokenText
from actscope.scores._parts.reading import Reading, check_subject
from actscope.scores.explanation.detection import detection


@dataclass(frozen=True)
class Splits:
    """wanted: latents asked for; alive: those with enough active and silent contexts in all three splits."""

    dictionary: Dictionary
    subject: Subject
    store: Store
    propose: Reading
    select: Reading
    report: Reading
    wanted: list[int]
    alive: list[int]
    contexts: int
    most: int
    above: float
    seed: int

    @staticmethod
    def of(
        dictionary: Dictionary,
        subject: Subject,
        store: Store,
        documents: Iterable[int] | None,
        latents: Sequence[int] | None,
        *,
        contexts: int,
        most: int,
        above: float,
        seed: int,
    ) -> "Splits":
        """documents: which to use (None: all). Raises WrongSubject; BadInput for latents out of range and a split without
        documents."""
        check_subject(dictionary, subject, store)
        wanted = wanted_latents(dictionary, latents)
        allowed = set(store.documents) if documents is None else set(documents)
        splits = [[number for number in part if number in allowed] for part in split_documents(store, 3, seed=seed)]
        if not all(splits):
            raise BadInput(
                f"{len(allowed)} documents given, split {' + '.join(str(len(part)) for part in splits)}; propose, select and "
                "report each need some. Capture more documents, or cut the text into smaller ones."
            )
        text = TokenText.of(store, subject)
        propose, select, report = (Reading.of(dictionary, store, text, part) for part in splits)
        alive = [
            latent
            for latent in wanted
            if all(contexts <= int(one.counts[latent]) <= len(one.text) - contexts for one in (propose, select, report))
        ]
        return Splits(
            dictionary, subject, store, propose, select, report, wanted, alive, contexts, most, above, seed
        )  # fmt: skip

    def judged(self, found: Sequence[Explanation]) -> Mapping[int, Score]:
        """Detection of each explanation on report."""
        drawn = {"contexts": self.contexts, "most": self.most, "above": self.above, "seed": self.seed + 3}
        return detection(found, self.dictionary, self.subject, self.store, reading=self.report, **drawn)

    def sizes(self, latent: int) -> dict[str, dict[str, int]]:
        """Documents, rows and active contexts of each split."""
        readings = {"propose": self.propose, "select": self.select, "report": self.report}
        return {
            name: {
                "documents": int(one.document.max()) + 1,
                "rows": len(one.text),
                "active": int(one.counts[latent]),
            }
            for name, one in readings.items()
        }


def wanted_latents(dictionary: Dictionary, latents: Sequence[int] | None) -> list[int]:
    """The latents asked for (None: all). Raises BadInput for those the dictionary lacks."""
    wanted = list(range(dictionary.n_latents)) if latents is None else list(latents)
    if wanted and not 0 <= min(wanted) <= max(wanted) < dictionary.n_latents:
        raise BadInput(f"Latents {min(wanted)} to {max(wanted)} asked for; the dictionary has 0 to {dictionary.n_latents - 1}.")
    return wanted
