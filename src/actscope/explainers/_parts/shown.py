"""Text as a language model is shown it: data in JSON strings, never part of what it is told.

Letters: n rows.
"""

import json
import re
import unicodedata
from collections.abc import Sequence

from jaxtyping import Bool
from torch import Tensor

from actscope.core import files
from actscope.core.text import TokenText

_MARKS = (("<<", ">>"), ("[[", "]]"), ("{{", "}}"), ("⟦", "⟧"), ("❮❮", "❯❯"))
_CONTROL = re.compile(r"<(?=[|/]|s>|start_of|end_of|bos|eos|think|reserved|unused|im_)|\[(?=/?INST\b)", re.IGNORECASE)
_ORDERS = re.compile(
    r"\b(ignore|disregard|forget|override)\b.{0,40}\b(previous|above|prior|earlier|instructions?|prompt|rules)\b|"
    r"\b(you must|respond|answer|reply|output) (only )?(with|as)\b|\bsystem prompt\b|\bnew instructions?\b|<\|im_|\[/?INST\b|"
    r"^\s*(system|assistant|user)\s*:",
    re.IGNORECASE | re.MULTILINE,
)


def before(text: TokenText, row: int, tokens: int) -> str:
    """Up to so many tokens before this one in its sequence."""
    first = max(int(text.start[row]), row - tokens)
    return "".join(text.vocabulary[number] for number in text.ids[first:row].tolist())


def window(text: TokenText, row: int, fires: Bool[Tensor, " n"], marks: tuple[str, str], *, back: int, ahead: int) -> str:
    """The tokens around a row in its sequence, with marks around each that fires."""
    first, last = max(int(text.start[row]), row - back), min(len(text), row + ahead + 1)
    pieces = []
    for place in range(first, last):
        if text.start[place] != text.start[row]:
            break
        piece = text.vocabulary[int(text.ids[place])]
        pieces.append(f"{marks[0]}{piece}{marks[1]}" if fires[place] else piece)
    return "".join(pieces)


def marks_for(texts: Sequence[str]) -> tuple[str, str]:
    """A pair of marks that none of these texts has."""
    free = (pair for pair in _MARKS if not any(mark in text for text in texts for mark in pair))
    return next(free, ("\u27ea\u27ea", "\u27eb\u27eb"))


def fenced(value: object) -> str:
    """JSON between two lines that no text can have foreseen; what could end a turn or hide is written as \\u003c is."""
    text = _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))
    text = text.translate({ord(character): _visible(character) for character in set(text) if not character.isprintable()})
    name = files.sha256(text.encode())[:12]
    return f"DATA {name}\n{text}\nEND OF DATA {name}"


def gives_orders(text: str) -> bool:
    """Whether a text speaks as if to a model that reads it."""
    return bool(_ORDERS.search(text))


def _visible(character: str) -> str:
    if unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp"):
        return character
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    return f"\\u{0xD800 + (code - 0x10000 >> 10):04x}\\u{0xDC00 + (code - 0x10000 & 0x3FF):04x}"
