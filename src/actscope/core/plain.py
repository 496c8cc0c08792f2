"""Text from elsewhere (a token, a file's name, a model's answer) as it may stand on a terminal."""

import unicodedata

WHITESPACE = {"\n": "↵", "\t": "⇥", "\r": "␍", " ": "␣"}


def plain(text: str) -> str:
    """`text` with every character that could move a cursor, reorder a line or vanish written out, as in \\x1b."""
    return "".join(escape(character) if _unsafe(character) else character for character in text)


def escape(character: str) -> str:
    """The character's sign, or its number."""
    code = ord(character)
    if character in WHITESPACE:
        return WHITESPACE[character]
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


def _unsafe(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
