"""Tone: a letter ends in the register it began in."""

from random import Random
from typing import final

from actscope.tasks._parts.rule import Rule
from actscope.tasks._parts.text import Item, Labelled
from actscope.tasks._parts.words import DAYS, NAMES, OBJECTS, PLACES

__all__ = ["Tone"]

_GREETINGS = {"formal": ("Dear", "Esteemed"), "casual": ("Hey", "Yo")}
_REQUESTS = {
    "formal": (" I would be grateful to receive the", " Kindly return the", " It would be an honor to see the"),
    "casual": (" gimme the", " wanna see the", " just grab the"),
}
_THANKS = {
    "formal": (" I remain obliged to you.", " Your assistance is much appreciated."),
    "casual": (" That would be awesome.", " You totally rock."),
}
_CLOSINGS = {"formal": (" Sincerely", " Respectfully", " Faithfully"), "casual": (" Cheers", " Later", " Hugs")}
_OTHER = {"formal": "casual", "casual": "formal"}


@final
class Tone(Rule):
    """A letter in a formal or a casual register, cut before its closing: the closings of the register are right.

    After the sentiment and formality directions of Turner et al. 2023 (arXiv:2308.10248).
    """

    name = "tone"
    source = "Turner et al. 2023, arXiv:2308.10248"
    metric = "mass"
    items = (1, 1)

    def write(self, random: Random) -> Item:
        tone = random.choice(("formal", "casual"))
        cause = f"tone.{tone}"
        other = _OTHER[tone]
        to, by = random.sample(NAMES, 2)
        thing, place, day = random.choice(OBJECTS), random.choice(PLACES), random.choice(DAYS)
        text, twin = Labelled(self.name), ""
        for slot, (phrases, rest) in enumerate(
            ((_GREETINGS, f" {to},"), (_REQUESTS, f" {thing} at the {place} on {day}."), (_THANKS, ""), (_CLOSINGS, f", {by}"))
        ):
            if slot == 3:
                text.answer_here()
            if slot == 2 and random.random() < 0.4:
                continue
            choice = random.randrange(len(phrases[tone]))
            text.add(phrases[tone][choice], cause, *(["tone.closing"] if slot == 3 else [])).add(rest)
            twin += phrases[other][choice % len(phrases[other])] + rest if slot < 3 else ""
        return text.item(_CLOSINGS[tone], _CLOSINGS[other], twin, {"tone": tone})
