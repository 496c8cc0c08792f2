"""Colored objects: which color the object asked for has."""

from random import Random
from typing import final

from actscope.tasks._parts.rule import Rule
from actscope.tasks._parts.text import Item, Labelled
from actscope.tasks._parts.words import COLORS, OBJECTS, PLACES

__all__ = ["ColoredObjects"]


@final
class ColoredObjects(Rule):
    """ "In the park: cup red, pen blue, key green. Which color has the pen? pen" -> " blue".

    After the BIG-bench task "reasoning about colored objects" (arXiv:2206.04615); the answer follows the object's name
    again, as in the list.
    """

    name = "colored_objects"
    source = "BIG-bench, arXiv:2206.04615"

    def write(self, random: Random) -> Item:
        things = random.sample(OBJECTS, random.randint(3, 5))
        *colors, other = random.sample(COLORS, len(things) + 1)
        asked = random.randrange(len(things))
        text = Labelled(self.name).add(f"In the {random.choice(PLACES)}:")
        for place, (thing, color) in enumerate(zip(things, colors, strict=True)):
            text.add("," if place else "").add(f" {thing}", "colored_objects.object")
            text.add(f" {color}", "colored_objects.color")
        text.add(". Which color has the").add(f" {things[asked]}", "colored_objects.asked").add("?")
        text.add(f" {things[asked]}", "colored_objects.asked_again").answer_here()
        text.add(f" {colors[asked]}", "colored_objects.answer").add(".")
        twin = text.text[: text.cut].replace(f" {colors[asked]}", f" {other}", 1)
        wrong = tuple(f" {color}" for color in colors if color != colors[asked])
        return text.item((f" {colors[asked]}",), wrong, twin, {"object": things[asked]})
