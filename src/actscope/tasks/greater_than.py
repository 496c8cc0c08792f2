"""Greater-than: what lasts from one year ends in a later one."""

from random import Random
from typing import final

from actscope.tasks._parts.rule import Rule
from actscope.tasks._parts.text import Item, Labelled
from actscope.tasks._parts.words import EVENTS, PLACES

__all__ = ["GreaterThan"]

_ENDS = tuple(f"{year:02d}" for year in range(100))


@final
class GreaterThan(Rule):
    """ "The war lasted from the year 1732 to the year 17" -> a later year of the century. Hanna et al. 2023 (arXiv:2305.00586).

    Years are single digits to the tokenizer; every two-digit ending is either an answer or wrong.
    """

    name = "greater_than"
    source = "Hanna et al. 2023, arXiv:2305.00586"
    metric = "mass"

    def write(self, random: Random) -> Item:
        event, place = random.choice(EVENTS), random.choice(PLACES)
        century, start = random.randint(11, 19), random.randint(2, 96)
        end = random.randint(start + 1, 99)
        text = Labelled(self.name).add(f"The {event}").add(f" near the {place} lasted from the year")
        text.add(f" {century}", "greater_than.century").add(_ENDS[start], "greater_than.start").add(" to the year")
        text.add(f" {century}", "greater_than.century").answer_here()
        text.add(_ENDS[end], "greater_than.answer").add(".")
        twin = f" {century}01".join(text.text[: text.cut].split(f" {century}{_ENDS[start]}"))
        return text.item(_ENDS[start + 1 :], _ENDS[: start + 1], twin, {"start": _ENDS[start]})
