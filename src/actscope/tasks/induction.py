"""Induction: a random sequence of words is repeated; the next word is what followed the last one before."""

from random import Random
from typing import final

from actscope.tasks._parts.rule import Rule
from actscope.tasks._parts.text import Item, Labelled
from actscope.tasks._parts.words import COMMON

__all__ = ["Induction"]


@final
class Induction(Rule):
    """Repeat an unseen sequence of distinct random words. Olsson et al. 2022 (arXiv:2209.11895)."""

    name = "induction"
    source = "Olsson et al. 2022, arXiv:2209.11895"
    items = (1, 1)

    def write(self, random: Random) -> Item:
        words = random.sample(COMMON, random.randint(4, 20))
        given = random.randint(1, len(words) - 1)
        text = Labelled(self.name).add("Repeat:")
        for word in words:
            text.add(f" {word}", "induction.first")
        text.add(";")
        for place, word in enumerate(words):
            if place == given:
                text.answer_here()
            text.add(f" {word}", *(["induction.copied"] if place else ["induction.restart"]))
        changed = [word for word in COMMON if word not in words]
        twin = text.text[: text.cut].replace(f" {words[given]}", f" {random.choice(changed)}", 1)
        wrong = tuple(f" {word}" for word in words if word != words[given])
        return text.add(".").item((f" {words[given]}",), wrong, twin)
