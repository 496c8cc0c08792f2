"""Docstring completion: the next parameter to document is the next one of the signature."""

from random import Random
from typing import final

from actscope.tasks._parts.rule import Rule
from actscope.tasks._parts.text import Item, Labelled
from actscope.tasks._parts.words import OBJECTS, PARAMETERS, TOPICS

__all__ = ["Docstring"]

_VERBS = ("load", "make", "find", "count", "draw", "send", "sort", "move")


@final
class Docstring(Rule):
    """ "def load(self, files, size, seed): ... :param files: ... :param size: ... :param" -> " seed"."""

    name = "docstring"
    source = "Heimersheim and Janiak 2023, A circuit for Python docstrings in a 4-layer attention-only transformer"
    items = (1, 1)

    def write(self, random: Random) -> Item:
        *names, other = random.sample(PARAMETERS, random.randint(4, 6))
        things = random.sample(OBJECTS + TOPICS, len(names) + 1)
        given = random.randint(1, len(names) - 1)
        text = Labelled(self.name).add(f"def {random.choice(_VERBS)}(").add("self")
        for name in names:
            text.add(",").add(f" {name}", "docstring.signature")
        text.add('):\n    """').add(f"Use the {things[0]}.\n")
        for place, (name, thing) in enumerate(zip(names, things[1:], strict=True)):
            text.add("\n    :").add("param", "docstring.param")
            if place == given:
                text.answer_here()
            text.add(f" {name}", "docstring.answer").add(f": the {thing}")
        text.add('\n    """')
        twin = text.text[: text.cut].replace(f" {names[given]}", f" {other}", 1)
        wrong = tuple(f" {name}" for name in names if name != names[given])
        return text.item((f" {names[given]}",), wrong, twin)
