"""Every score of explanations with its settings here, called in one way and timed."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from actscope.core.dictionary import Dictionary
from actscope.core.explanation import Explanation
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.scores._parts.reading import Reading
from actscope.scores.explanation.clarity import clarity
from actscope.scores.explanation.detection import detection
from actscope.scores.explanation.embedding import embedding
from actscope.scores.explanation.faithfulness import faithfulness
from actscope.scores.explanation.fuzzing import fuzzing
from actscope.scores.explanation.intervention import intervention
from actscope.scores.explanation.log_loss import log_loss
from actscope.scores.explanation.purity import purity
from actscope.scores.explanation.responsiveness import responsiveness
from actscope.scores.explanation.simulation import simulation
from actscope.scores.explanation.surprisal import surprisal

INPUT = ("detection", "fuzzing", "simulation", "log_loss", "embedding", "surprisal", "clarity", "responsiveness", "purity")
OUTPUT = ("intervention", "faithfulness")  # judge what comes next
BY_SUBJECT = "surprisal read by the subject"  # instead of by the model that copies from a description
EFFECT = 0.5  # nats by which the next token is moved, as in the paper
EQUAL = "intervention at equal effect"  # in place of the same share of what each latent is in the text
CHANCE = {"intervention": 0.5, EQUAL: 0.5, "faithfulness": 0.0}

Scorer = Callable[[Sequence[Explanation], Dictionary, Subject, Store], Mapping[int, Score]]


class Scorers:
    """The scores by name; what each has cost so far, in seconds and in rows the judge was asked about."""

    def __init__(self, reading: Reading, reader: Subject, *, contexts: int, places: int, seed: int):
        """reading: the documents judged on. reader: the language model of surprisal. contexts: at least so many a side."""
        draws = {"draws": 200, "permutations": 10, "others": 0, "seed": seed}
        shared = {"reading": reading, **draws}
        few = min(40, contexts)
        steer = partial(intervention, reading=reading, places=places, samples=32, controls=3, **draws)
        self._by_name: dict[str, Callable[..., Mapping[int, Score]]] = {
            **{
                one.__name__: partial(one, contexts=contexts, most=300, **shared)
                for one in (detection, fuzzing, log_loss, embedding)
            },
            "simulation": partial(simulation, contexts=few, windows=50, **shared),
            "surprisal": partial(surprisal, reader=reader, contexts=few, most=50, window=8, **shared),
            BY_SUBJECT: partial(surprisal, contexts=few, most=50, window=8, **shared),
            "clarity": partial(clarity, samples=60, **shared),
            "responsiveness": partial(responsiveness, contexts=8, **shared),
            "purity": partial(purity, contexts=8, **shared),
            "intervention": steer,
            EQUAL: partial(steer, kl=EFFECT),
            "faithfulness": partial(faithfulness, reading=reading, places=places, controls=1, draws=200, others=0, seed=seed),
        }
        self.seconds = dict.fromkeys(self._by_name, 0.0)
        self.judged = dict.fromkeys(self._by_name, 0.0)

    def __call__(
        self, name: str, explanations: Sequence[Explanation], dictionary: Dictionary, subject: Subject, store: Store
    ) -> Mapping[int, Score]:
        began = time.monotonic()
        found = self._by_name[name](explanations, dictionary, subject, store)
        self.seconds[name] += time.monotonic() - began
        self.judged[name] += sum(score.parts["judged"] for score in found.values())
        return found
