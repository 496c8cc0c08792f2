"""Brackets: what is opened last is closed first."""

from random import Random
from typing import final

from actscope.tasks._parts.rule import Rule
from actscope.tasks._parts.text import Item, Labelled

__all__ = ["Brackets"]

_PAIRS = {"(": ")", "[": "]", "{": "}", "<": ">"}
_DEEPEST = 5


@final
class Brackets(Rule):
    """ "Nest:([{" -> "}", rather than another closing mark. Weiss et al. 2018 (arXiv:1805.04908)."""

    name = "brackets"
    source = "Weiss et al. 2018, arXiv:1805.04908"
    metric = "mass"
    items = (1, 2)

    def write(self, random: Random) -> Item:
        opened: list[str] = []
        marks: list[tuple[str, int, bool]] = []  # mark, depth, whether it closes
        size = random.randint(8, 20)
        while len(marks) < size or opened:
            close = opened and (len(opened) == _DEEPEST or len(marks) >= size or random.random() < 0.45)
            if close:
                marks.append((_PAIRS[opened.pop()], len(opened) + 1, True))
            else:
                opened.append(random.choice(tuple(_PAIRS)))
                marks.append((opened[-1], len(opened), False))
        asked = random.choice([place for place, (_, _, closes) in enumerate(marks) if closes])
        text = Labelled(self.name).add("Nest:")
        for place, (mark, depth, closes) in enumerate(marks):
            if place == asked:
                text.answer_here()
            text.add(mark, f"bracket.depth{depth}", "bracket.close" if closes else "bracket.open", f"bracket.{_SHAPES[mark]}")
        right, depth, _ = marks[asked]
        wrong = tuple(mark for mark in _PAIRS.values() if mark != right)
        opener = max(place for place in range(asked) if marks[place][1] == depth and not marks[place][2])
        twin = [mark for mark, _, _ in marks[:asked]]
        twin[opener] = next(mark for mark, closing in _PAIRS.items() if closing != right)
        return text.item((right,), wrong, "Nest:" + "".join(twin), {"depth": str(depth)})


_SHAPES = {"(": "round", ")": "round", "[": "square", "]": "square", "{": "curly", "}": "curly", "<": "angle", ">": "angle"}
