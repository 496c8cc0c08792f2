"""Embedding: is an explanation nearer to the contexts in which the latent fires than to others? Paulo, Mallen, Juang and
Belrose 2024, "Automatically Interpreting Millions of Features in Large Language Models" (arXiv:2410.13928), embedding.

    1. Draw contexts in which the latent fires and contexts in which it is silent.
    2. Encode the explanation and the text of each context as vectors.
    3. The score is the area under the ROC curve of their cosines, active against silent.

The paper uses a sentence encoder of 400 million parameters and an instruction before the explanation; any function from texts
to vectors serves here (an instruction is its own business). Where none is given, the subject's token embeddings stand in, word
by word, with more weight the nearer a token is to the end of the context: they know words and not what sentences mean.
"""

from collections.abc import Iterable, Mapping, Sequence

from actscope.core.dictionary import Dictionary
from actscope.core.explanation import Explanation
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.scores._parts.agreement import auroc
from actscope.scores._parts.judging import Cases, judged, reading_of
from actscope.scores._parts.reading import Reading
from actscope.scores._parts.similarity import Encoder, similarity

__all__ = ["embedding"]


def embedding(
    explanations: Sequence[Explanation],
    dictionary: Dictionary,
    subject: Subject,
    store: Store,
    *,
    encoder: Encoder | Subject | None = None,
    documents: Iterable[int] | None = None,
    reading: Reading | None = None,
    contexts: int = 200,
    most: int = 1000,
    above: float = 0.0,
    window: int = 16,
    others: int = 3,
    permutations: int = 20,
    draws: int = 500,
    seed: int = 0,
) -> Mapping[int, Score]:
    """Area under the ROC curve of the similarity of explanation and context, active against silent (arXiv:2410.13928).

    encoder: texts -> vectors, one a text, or a sentence encoder as `act.load` gives it (None: the subject's own token
    embeddings, the nearest two of explanation and context). A context is the text of up to `window` tokens that end with the
    one in question. Chance is 0.5.
    documents, reading, contexts, most, above, others, permutations, draws, control, interval and parts: as for detection.
    Returns latent -> Score. Raises BadInput for vectors that are not one a text, or where the subject has no embeddings.
    """
    reading = reading_of(dictionary, subject, store, documents, reading)
    judge = similarity(subject if encoder is None else encoder, reading.text, window)
    drawn = [reading.contexts(one.latent, most=most, above=above, seed=seed) for one in explanations]
    return judged(
        "embedding", auroc, explanations, [Cases.of(one.active, one.random) for one in drawn], reading, judge,
        unit="area under ROC", contexts=contexts, others=others, permutations=permutations, draws=draws, seed=seed, version=2,
    )  # fmt: skip
