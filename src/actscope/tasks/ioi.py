"""Indirect object identification: of two names, the one that is not repeated receives."""

from random import Random
from typing import final

from actscope.tasks._parts.rule import Rule
from actscope.tasks._parts.text import Item, Labelled
from actscope.tasks._parts.words import NAMES, OBJECTS, PLACES

__all__ = ["IOI"]

_OPENINGS = (("When", " went to the"), ("After", " met at the"), ("While", " were in the"), ("Once", " came to the"))
_GIVES = (" gave the", " handed the", " offered the", " passed the")


@final
class IOI(Rule):
    """ "When Mary and John went to the store, John gave the book to" -> " Mary". Wang et al. 2022 (arXiv:2211.00593)."""

    name = "ioi"
    source = "Wang et al. 2022, arXiv:2211.00593"

    def write(self, random: Random) -> Item:
        giver, receiver, other = random.sample(NAMES, 3)
        pair = [(giver, "ioi.giver"), (receiver, "ioi.receiver")]
        random.shuffle(pair)
        opening, went = random.choice(_OPENINGS)
        place, thing, gave = random.choice(PLACES), random.choice(OBJECTS), random.choice(_GIVES)
        text = Labelled(self.name).add(opening)
        text.add(f" {pair[0][0]}", pair[0][1]).add(" and").add(f" {pair[1][0]}", pair[1][1])
        text.add(f"{went} {place},").add(f" {giver}", "ioi.repeated_name").add(f"{gave} {thing} to").answer_here()
        text.add(f" {receiver}", "ioi.answer").add(".")
        twin = f"{other}".join(text.text[: text.cut].rsplit(giver, 1))
        return text.item((f" {receiver}",), (f" {giver}",), twin, {"giver": giver, "receiver": receiver})
