"""Successor: counting on in numbers, days and months."""

from random import Random
from typing import final

from actscope.tasks._parts.rule import Rule
from actscope.tasks._parts.text import Item, Labelled
from actscope.tasks._parts.words import DAYS, MONTHS, NAMES, NUMBERS

__all__ = ["Successor"]

_SERIES = {
    "day": (DAYS, True), "month": (MONTHS, True), "number": (NUMBERS, False),
    "numeral": (tuple(str(number) for number in range(1, 100)), False),
}  # fmt: skip
_SAYS = (" says", " writes", " counts", " reads")


@final
class Successor(Rule):
    """ "Mary counts: Monday, Tuesday," -> " Wednesday". Gould et al. 2023 (arXiv:2312.09230)."""

    name = "successor"
    source = "Gould et al. 2023, arXiv:2312.09230"

    def write(self, random: Random) -> Item:
        kind = random.choice(tuple(_SERIES))
        series, around = _SERIES[kind]
        length = random.randint(2, 5)
        start = random.randrange(len(series) if around else len(series) - length)
        words = [series[(start + step) % len(series)] for step in range(length + 1)]
        name, says = random.choice(NAMES), random.choice(_SAYS)
        text = Labelled(self.name).add(f"{name}{says}:")
        for place, word in enumerate(words):
            text.add("," if place else "")
            if place == length:
                text.answer_here()
            text.add(f" {word}", *(["successor.next", f"successor.{kind}"] if place else ["successor.first"]))
        twin = f"{name}{says}:" + "".join(f" {word}," for word in random.sample(series, length))
        if twin == text.text[: text.cut]:
            twin = f"{name}{says}:" + "".join(f" {word}," for word in reversed(words[:-1]))
        return text.add(".").item((f" {words[-1]}",), (f" {words[-2]}",), twin, {"kind": kind})
