"""JSON lines: one object a line, read a line at a time, so that a file may be larger than the memory."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from actscope.core.errors import BadInput

LONGEST_LINE = 64 << 20  # bytes


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, text without its end) of every line of a UTF-8 file, gzipped or not. Raises BadInput for a line that
    never ends and for bytes that are not UTF-8 or no gzip."""
    read = 0
    try:
        with cast(BinaryIO, gzip.open(path) if path.suffix.lower() == ".gz" else open(path, "rb")) as file:
            number = 0
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise BadInput(
                        f"{path}, line {number} is longer than {LONGEST_LINE:,} bytes; expected one document a line. Cut it "
                        "into several, each on a line of its own."
                    )
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise BadInput(not_utf8(path, read + error.start, error.object[error.start])) from error
                read += len(line)
                yield number, text.removesuffix("\n").removesuffix("\r")
    except (EOFError, gzip.BadGzipFile, OSError) as error:
        raise BadInput(f"{path} cannot be read ({error}); expected a file you may read, whole.") from error


def not_utf8(path: Path, at: int, byte: int) -> str:
    return (
        f"{path} is not UTF-8 text: byte {at} is {byte:#04x}. Convert it, for example with "
        f"`iconv -f latin1 -t utf-8 {path.name}`, or leave it out."
    )


def json_line(line: str, shown: str, number: int) -> dict:
    """The object of one line. Raises BadInput naming the line."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(f'{shown}, line {number}: {error}; expected a JSON object such as {{"text": "..."}}.') from error
    if not isinstance(value, dict):
        raise BadInput(f'{shown}, line {number}: {type(value).__name__}; expected a JSON object with a string "text".')
    return value
