"""A second grammar, with other rules and other words than the one pocket learned: what a rule finder that was developed on the
first is judged on. It was written after the rule finder was frozen, and pocket was never trained on it.

Six kinds of text: lines of a server's log, steps of recipes, moves of board games, nested markup, couplets that rhyme, and
reactions of elements. Document i is a pure function of (seed, i); every character holds the causes that wrote it, or "none".
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from actscope.core.corpus import Document
from actscope.core.errors import UsageError
from actscope.tasks._parts.text import Labelled, spans

__all__ = ["second_grammar"]

VERSION = 1
_PARTS = ("disk", "socket", "cache", "router", "kernel", "worker", "mailer", "queue")
_LEVELS = {"INFO": 6, "DEBUG": 3, "WARN": 2, "ERROR": 2}
_FINE = ("ready", "started", "connected", "idle", "flushed", "synced")
_BAD = ("refused", "overflowed", "crashed", "stalled", "vanished")
_STEPS = ("Chop", "Fry", "Melt", "Whisk", "Boil", "Knead", "Season", "Drain")
_UNITS = ("grams", "cups", "slices", "drops", "pinches")
_FOODS = ("butter", "onion", "flour", "pepper", "tomato", "salmon", "rice", "spinach", "vinegar", "basil", "lemon", "cream")
_DONE = ("golden", "soft", "crisp", "thick", "tender")
_FIGURES = {"N": "knight", "B": "bishop", "R": "rook", "Q": "queen"}
_TAGS = ("page", "menu", "row", "cell", "title", "link", "panel")
_SHOWN = ("welcome", "search", "login", "settings", "profile", "checkout")
_RHYMES = (
    ("stone", "alone", "bone", "throne"), ("bright", "sight", "flight", "knight"), ("deep", "sleep", "keep", "weep"),
    ("wind", "thinned", "pinned", "grinned"), ("fall", "wall", "call", "small"),
)  # fmt: skip
_BEGINS = ("Beneath", "Beyond", "Above", "Against", "Without")
_MIDDLE = ("wandering", "silent", "golden", "hollow", "ancient", "burning")
_THINGS = ("hills", "clouds", "waves", "shadows", "voices", "ashes")
_VERBS = ("sing", "sink", "tremble", "gather", "wither")
_METALS = {"Na": "sodium", "Li": "lithium", "Ni": "nickel", "Zn": "zinc", "Fe": "iron"}
_OTHERS = {"Cl": "chlorine", "Br": "bromine", "O": "oxygen", "S": "sulfur"}


@dataclass(frozen=True)
class SecondGrammar:
    """A corpus of `size` documents."""

    seed: int
    size: int

    @property
    def name(self) -> str:
        return f"second-grammar-{self.seed}"

    @property
    def fingerprint(self) -> str:
        """Hash of the settings and of the first documents, which change when a rule does."""
        first = [self.document(number).text for number in range(min(self.size, 64))]
        return hashlib.sha256(json.dumps([VERSION, self.seed, self.size, first]).encode()).hexdigest()

    def __len__(self) -> int:
        return self.size

    def documents(self, start: int = 0) -> Iterator[Document]:
        """The documents from number `start` on."""
        return (self.document(number) for number in range(start, self.size))

    def document(self, number: int) -> Document:
        """Document `number`."""
        random = Random(f"second:{self.seed}:{number}")
        family = random.choice(tuple(_KINDS))
        text = Labelled(family)
        _KINDS[family](text, random)
        marks = ((0, len(text.text), f"kind.{family}"), *text.marks)
        digest = hashlib.blake2b(text.text.encode(), digest_size=8).hexdigest()
        return Document(f"{family}-{digest}", text.text, spans(text.text, marks), family)


def second_grammar(seed: int = 0, documents: int = 10_000) -> SecondGrammar:
    """The labelled corpus of the second grammar. Cheap at any document number. Raises UsageError for no documents."""
    if documents < 1:
        raise UsageError(f"documents={documents}; expected at least one.")
    return SecondGrammar(seed, documents)


def _log(text: Labelled, random: Random) -> None:
    """ "07:41 WARN router: stalled, retry 3". After an ERROR the next line is about the same part and says it restarts."""
    hour, minute, failed = random.randint(0, 23), random.randint(0, 50), ""
    for _ in range(random.randint(3, 6)):
        minute = min(59, minute + random.randint(0, 3))
        text.add(f"{hour:02}:{minute:02}", "log.time")
        part = failed or random.choice(_PARTS)
        if failed:
            text.add(" INFO", "log.level", "log.info").add(f" {part}", "log.part", "log.same_part").add(":")
            text.add(" restarting", "log.restart").add("\n")
            failed = ""
            continue
        level = random.choices(tuple(_LEVELS), tuple(_LEVELS.values()))[0]
        text.add(f" {level}", "log.level", f"log.{level.lower()}").add(f" {part}", "log.part").add(":")
        if level in ("INFO", "DEBUG"):
            text.add(f" {random.choice(_FINE)}", "log.fine")
        else:
            text.add(f" {random.choice(_BAD)}", "log.bad").add(",").add(" retry", "log.retry")
            text.add(f" {random.randint(1, 9)}", "log.count")
            failed = part if level == "ERROR" else ""
        text.add("\n")


def _recipe(text: Labelled, random: Random) -> None:
    """ "Melt 40 grams of butter until golden." The last step mixes what the first two steps made."""
    used = random.sample(_FOODS, random.randint(2, 4))
    for food in used:
        text.add(random.choice(_STEPS), "recipe.step").add(f" {random.randint(2, 90)}", "recipe.amount")
        text.add(f" {random.choice(_UNITS)}", "recipe.unit").add(" of").add(f" {food}", "recipe.food")
        if random.random() < 0.5:
            text.add(" until").add(f" {random.choice(_DONE)}", "recipe.done")
        text.add(".").add("\n")
    text.add("Stir").add(" the").add(f" {used[0]}", "recipe.food", "recipe.again").add(" into").add(" the")
    text.add(f" {used[1]}", "recipe.food", "recipe.again").add(".")


def _game(text: Labelled, random: Random) -> None:
    """ "4. Nf3 Qxd5". White's move and black's; a capture has an x; a check, which only queens and rooks give here, a +."""
    for number in range(1, random.randint(4, 9)):
        text.add(f"{number}", "game.number").add(".")
        for side in ("white", "black"):
            figure = random.choice((*_FIGURES, ""))
            cause = f"game.{_FIGURES.get(figure, 'pawn')}"
            takes = random.random() < 0.25
            first = figure or random.choice("abcdefgh")
            square = random.choice("abcdefgh") if figure or takes else ""
            letters = first + ("x" if takes else "") + square
            text.add(f" {letters}", f"game.{side}", cause, *(["game.takes"] if takes else []))
            text.add(str(random.randint(1, 8)), "game.rank", f"game.{side}")
            if figure in ("Q", "R") and random.random() < 0.4:
                text.add("+", "game.check")
        text.add("\n")


def _markup(text: Labelled, random: Random, depth: int = 1) -> None:
    """ "<row><cell>login</cell></row>": what is opened last is closed first, by its own name."""
    for _ in range(random.randint(1, 2)):
        tag = random.choice(_TAGS)
        text.add("<").add(tag, "markup.opening", f"markup.depth{depth}").add(">")
        if depth < 3 and random.random() < 0.6:
            _markup(text, random, depth + 1)
        else:
            text.add(random.choice(_SHOWN), "markup.shown")
        text.add("<").add("/").add(tag, "markup.closing", f"markup.depth{depth}").add(">")


def _couplets(text: Labelled, random: Random) -> None:
    """Two lines that rhyme, two to three times; the second begins with "And" where the first begins with "Beneath"."""
    for _ in range(random.randint(2, 3)):
        ends = random.sample(random.choice(_RHYMES), 2)
        begin = random.choice(_BEGINS)
        for place, end in enumerate(ends):
            word = begin if place == 0 else "And" if begin == "Beneath" else "Then"
            text.add(word, "verse.begin", *(["verse.and"] if word == "And" else []))
            text.add(" the").add(f" {random.choice(_MIDDLE)}", "verse.adjective").add(
                f" {random.choice(_THINGS)}", "verse.noun"
            )
            text.add(f" {random.choice(_VERBS)}", "verse.verb").add(" and")
            text.add(f" {end}", "verse.end", *(["verse.rhyme"] if place else [])).add("," if place == 0 else ";").add("\n")


def _reaction(text: Labelled, random: Random) -> None:
    """ "2Na + Cl -> salt of sodium; heat": a metal and another element; oxygen makes rust of iron, and burning gives heat."""
    for _ in range(random.randint(2, 5)):
        metal, other = random.choice(tuple(_METALS)), random.choice(tuple(_OTHERS))
        text.add(str(random.randint(2, 4)), "reaction.count").add(metal, "reaction.metal", f"reaction.{_METALS[metal]}")
        text.add(" +").add(f" {other}", "reaction.other", f"reaction.{_OTHERS[other]}").add(" -").add(">", "reaction.arrow")
        made = "rust" if (metal, other) == ("Fe", "O") else "oxide" if other == "O" else "salt"
        text.add(f" {made}", "reaction.made", f"reaction.{made}").add(" of")
        text.add(f" {_METALS[metal]}", "reaction.name")
        if other == "O":
            text.add(";").add(" heat", "reaction.heat")
        text.add("\n")


_KINDS: dict[str, Callable[[Labelled, Random], None]] = {
    "log": _log, "recipe": _recipe, "game": _game, "markup": _markup, "couplets": _couplets, "reaction": _reaction,
}  # fmt: skip
