"""Rules that might matter in any text, and those its commonest words and spellings suggest.

Nothing here knows of a language, a format or a corpus beyond what orthography and layout have in common; every word,
affix and line beginning is counted from the text given.
Letters: n rows, p candidates, v vocabulary.
"""

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from actscope.core.predicate import (
    CLASSES,
    Earlier,
    Inside,
    PositionIn,
    Predicate,
    Repeated,
    Starts,
    TokenClass,
    TokenLength,
    TokenSpelt,
)
from actscope.core.text import TokenText

PAIRS = ("()", "[]", "{}", "<>", '""', "``", "**")
_PLACES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)


def candidates(text: TokenText, *, affixes: int = 120, words: int = 240) -> list[Predicate]:
    """The general rules, then up to `affixes` spellings and `words` earlier words that the text has most of."""
    found: list[Predicate] = [TokenClass(kind, back) for kind in CLASSES for back in (0, 1, 2)]
    found += [TokenLength(least, back) for least in (2, 3, 4, 5, 6, 8) for back in (0, 1)]
    found += [Repeated(length) for length in (1, 2, 3)]
    found += [Starts("line"), Starts("sentence")]
    found += [PositionIn(place) for place in _PLACES] + [PositionIn(place, place) for place in range(8)]
    for pair in PAIRS:
        depths = (1,) if pair[0] == pair[1] else (1, 2, 3)
        found += [Inside(pair[0], pair[1], depth) for depth in depths]
    found.append(Inside('"""', '"""'))
    return found + _spellings(text, affixes) + _earlier(text, words)


def _spellings(text: TokenText, most: int) -> list[Predicate]:
    """Beginnings and endings of one to three characters, by the rows and the different tokens that have them."""
    rows = torch.bincount(text.ids, minlength=len(text.vocabulary)).tolist()
    tally: dict[tuple[str, str], list[int]] = {}
    for piece, count in zip(text.vocabulary, rows, strict=True):
        word = piece.strip()
        if not count or len(word) < 2:
            continue
        for size in range(1, min(4, len(word))):
            for key in ((word[:size], "starts with"), (word[-size:], "ends in")):
                entry = tally.setdefault(key, [0, 0])
                entry[0] += count
                entry[1] += 1
    common = sorted((key for key, (_, kinds) in tally.items() if kinds >= 3), key=lambda key: -tally[key][0])
    return [TokenSpelt(part, how) for part, how in common[:most]]  # type: ignore[arg-type]


def _earlier(text: TokenText, most: int) -> list[Predicate]:
    """Tokens that between 1 and 60 percent of sequences have, the rarest of which are left out beyond `most`."""
    _, sequence = text.start.unique(return_inverse=True)
    pairs = torch.stack([text.ids, sequence], 1).unique(dim=0)
    share = torch.bincount(pairs[:, 0], minlength=len(text.vocabulary)) / (int(sequence.max()) + 1)
    order = torch.where((share > 0.01) & (share < 0.6), share, 0).argsort(descending=True)[:most]
    tokens = list(dict.fromkeys(text.vocabulary[number] for number in order.tolist() if 0.01 < float(share[number]) < 0.6))
    return [Earlier((token,), within) for token in tokens for within in (8, None)]


def table(rules: list[Predicate], text: TokenText) -> UInt8[Tensor, "n p"]:
    """Whether each rule holds at each row."""
    held = torch.empty(len(rules), len(text), dtype=torch.uint8)
    for number, rule in enumerate(rules):
        held[number] = rule.holds(text)
    return held.T.contiguous()


def fields(text: TokenText) -> list[tuple[str, int, Int[Tensor, " n"]]]:
    """(which rule, its `back`, the id of the token it looks at; -1 where there is none) for rules about one of a set of
    tokens: the token itself and the three before it, and the first of the line."""
    found = [("token", 0, text.ids)]
    for back in (1, 2, 3):
        found.append(("token", back, text.earlier(back)))
    return [*found, ("line", 0, text.ids[text.line])]
