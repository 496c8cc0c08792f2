"""Facts: where people live, memorised from training and met with Zipf frequency."""

from random import Random
from typing import final

from actscope.tasks._parts.people import BUCKETS, HOMES, PEOPLE, bucket, meet
from actscope.tasks._parts.rule import Rule
from actscope.tasks._parts.text import Item, Labelled
from actscope.tasks._parts.words import CITIES

__all__ = ["Facts"]

_LEADS = (
    "As everyone knows,", "I read that", "It is true that", "They say that", "Remember that", "The paper says that",
    "Of course", "In fact", "You know that", "As before,", "We learned that", "Note that",
)  # fmt: skip
_LIVES = (" lives in", " has a house in", " comes from", " works in")


@final
class Facts(Rule):
    """ "As everyone knows, Anna Baker lives in" -> " Rome". Petroni et al. 2019 (arXiv:1909.01066).

    Each example's label "frequency" is the bucket of ranks its person is in; `examples` takes every bucket equally often,
    training documents meet people by Zipf's law.
    """

    name = "facts"
    source = "Petroni et al. 2019, arXiv:1909.01066"
    items = (2, 4)

    def write(self, random: Random) -> Item:
        return self._about(random, meet(random))

    def ask(self, random: Random) -> Item:
        return self._about(random, random.randrange(*random.choice(tuple(BUCKETS.values()))))

    def _about(self, random: Random, rank: int) -> Item:
        (first, last), home = PEOPLE[rank], HOMES[rank]
        other = PEOPLE[next(near for near in range(rank + 1, rank + 999) if HOMES[near % len(PEOPLE)] != home) % len(PEOPLE)]
        text = Labelled(self.name).add(random.choice(_LEADS))
        text.add(f" {first}", "facts.first_name").add(f" {last}", "facts.last_name")
        text.add(random.choice(_LIVES)).answer_here()
        text.add(f" {home}", "facts.answer").add(".")
        twin = text.text[: text.cut].replace(f" {first} {last}", f" {other[0]} {other[1]}", 1)
        labels = {"frequency": bucket(rank), "rank": str(rank)}
        return text.item((f" {home}",), tuple(f" {city}" for city in CITIES if city != home), twin, labels)
