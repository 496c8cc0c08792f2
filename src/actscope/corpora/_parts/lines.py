"""JSON lines: one object a line, its text under "text"."""

import json
from collections.abc import Iterator

from actscope.core.errors import BadInput


def json_lines(text: str, shown: str) -> Iterator[tuple[int, str]]:
    """(line number from 1, text) of every line that is not blank. Raises BadInput naming the line."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInput(f'{shown}, line {number}: {error}; expected a JSON object such as {{"text": "..."}}.') from error
        found = value.get("text") if isinstance(value, dict) else None
        if not isinstance(found, str):
            has = (
                f"an object with {', '.join(map(repr, value)) or 'no keys'}"
                if isinstance(value, dict)
                else type(value).__name__
            )
            raise BadInput(f'{shown}, line {number}: {has:.200}; expected a JSON object with a string "text".')
        if any("\ud800" <= letter <= "\udfff" for letter in found):
            raise BadInput(f"{shown}, line {number}: the text holds half a surrogate pair; expected valid Unicode.")
        yield number, found
