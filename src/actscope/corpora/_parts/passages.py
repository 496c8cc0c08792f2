"""Cutting text and code into passages of bounded size."""

import ast
import re
import warnings
from collections.abc import Iterator

LONGEST = 1500  # characters

Cut = Iterator[tuple[int, str]]  # (line the passage begins on, from 1; its text)


def text_passages(text: str, line: int = 1) -> Cut:
    """Paragraphs (parted by blank lines) gathered into passages of at most LONGEST characters; a longer paragraph is cut
    after its last line, or else word, that fits. Nothing but blank edges is lost."""
    held, begins = "", line
    for paragraph in re.split(r"(?<=\n)(?=[ \t]*\n)", text):
        if held and len(held) + len(paragraph) > LONGEST:
            yield from _trimmed(held, begins)
            held, begins = "", line
        held += paragraph
        while len(held) > LONGEST:
            end = _last_break(held)
            yield from _trimmed(held[:end], begins)
            begins += held.count("\n", 0, end)
            held = held[end:]
        line += paragraph.count("\n")
    yield from _trimmed(held, begins)


def python_passages(text: str) -> Cut:
    """One passage a top-level function or class, with its decorators and the comments above it, and passages of what
    stands between; a definition longer than LONGEST is cut like text, and so is code that does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the code read, such as invalid escapes
            body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        yield from text_passages(text)
        return
    lines = text.splitlines(keepends=True) if "\f" not in text else re.findall(r"[^\n]*\n|[^\n]+", text)
    done = 0
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
        while first > done and lines[first - 1].lstrip().startswith("#"):
            first -= 1
        yield from text_passages("".join(lines[done:first]), done + 1)
        done = node.end_lineno or len(lines)
        yield from text_passages("".join(lines[first:done]), first + 1)
    yield from text_passages("".join(lines[done:]), done + 1)


def _last_break(text: str) -> int:
    """Where to end a passage that begins `text`: after a line, else after a word, else after LONGEST characters."""
    for mark in ("\n", " "):
        at = text.rfind(mark, LONGEST // 4, LONGEST)
        if at > 0:
            return at + 1
    return LONGEST


def _trimmed(passage: str, line: int) -> Cut:
    """The passage without blank lines at its edges, if anything is left."""
    whole = passage.rstrip()
    start = re.match(r"(?:[ \t]*\n)*", whole)
    skipped = start.end() if start else 0
    if whole[skipped:]:
        yield line + whole.count("\n", 0, skipped), whole[skipped:]
