"""Addition of numbers of 1 to 3 digits; the answer's digits are reversed, so that each carry is known when it is needed."""

from random import Random
from typing import final

from actscope.tasks._parts.rule import Rule
from actscope.tasks._parts.text import Item, Labelled

__all__ = ["Addition"]


@final
class Addition(Rule):
    """ "47+85=" -> "231;" (132 reversed). Lee et al. 2023, Teaching arithmetic to small transformers (arXiv:2307.03381).

    lengths: the numbers of digits an operand may have; both operands of a sum have the same.
    """

    name = "addition"
    source = "Lee et al. 2023, arXiv:2307.03381"
    items = (3, 6)

    def __init__(self, lengths: tuple[int, ...] = (1, 2, 3)):
        self.lengths = lengths

    def write(self, random: Random) -> Item:
        length = random.choice(self.lengths)
        first, second = (random.randrange(10 ** (length - 1) if length > 1 else 0, 10**length) for _ in range(2))
        text = Labelled(self.name).add(str(first), "addition.first").add("+").add(str(second), "addition.second")
        text.add("=").answer_here()
        carry = 0
        for place in range(length):
            total = first // 10**place % 10 + second // 10**place % 10 + carry
            causes = ["addition.answer", f"addition.place{place + 1}", *(["addition.carried_in"] if carry else [])]
            text.add(str(total % 10), *causes)
            carry = total // 10
        if carry:
            text.add("1", "addition.answer", "addition.last_carry")
        right = str(first + second)[::-1]
        text.add(";", "addition.end")
        wrong = (f"{str(first + second + (1 if second % 2 else 10))[::-1]};",)
        twin = f"{first}+{(second + 1) % 10**length}="
        return text.item((f"{right};",), wrong, twin, {"digits": str(length)})
