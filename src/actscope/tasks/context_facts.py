"""In-context facts: what the text says of a person stands above what was memorised."""

from random import Random
from typing import final

from actscope.tasks._parts.people import HOMES, PEOPLE, bucket, meet
from actscope.tasks._parts.rule import Rule
from actscope.tasks._parts.text import Item, Labelled
from actscope.tasks._parts.words import CITIES

__all__ = ["ContextFacts"]

_OPENINGS = ("In this story", "Suppose that", "Let us say that", "In the film", "In the game")
_RECALLS = ("So", "Then", "Again", "Here", "Thus")


@final
class ContextFacts(Rule):
    """ "Suppose that Anna Baker lives in Oslo and Peter Hill lives in Lima. So Anna Baker lives in" -> " Oslo", not the
    memorised " Rome". Longpre et al. 2021 (arXiv:2109.05052)."""

    name = "context_facts"
    source = "Longpre et al. 2021, arXiv:2109.05052"

    def write(self, random: Random) -> Item:
        rank, second = meet(random), meet(random)
        while PEOPLE[second][0] == PEOPLE[rank][0]:
            second = random.randrange(len(PEOPLE))
        home = HOMES[rank]
        said, other, third = random.sample([city for city in CITIES if city != home], 3)
        statements = [(rank, said, "context_facts.stated"), (second, other, "context_facts.distractor")]
        random.shuffle(statements)
        text = Labelled(self.name).add(random.choice(_OPENINGS))
        for place, (who, city, cause) in enumerate(statements):
            text.add(" and" if place else "").add(f" {PEOPLE[who][0]} {PEOPLE[who][1]}", "context_facts.person")
            text.add(" lives in").add(f" {city}", cause)
        text.add(f". {random.choice(_RECALLS)}").add(f" {PEOPLE[rank][0]} {PEOPLE[rank][1]}", "context_facts.person_again")
        text.add(" lives in").answer_here().add(f" {said}", "context_facts.answer").add(".")
        twin = text.text[: text.cut].replace(f" {said}", f" {third}", 1)
        labels = {"frequency": bucket(rank), "memorised": home}
        return text.item((f" {said}",), (f" {home}", f" {other}"), twin, labels)
