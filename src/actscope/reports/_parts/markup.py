"""HTML and SVG built as values: every string is escaped unless it is Markup already."""

import html
from collections.abc import Callable, Iterable

from actscope.reports._parts import words

_VOID = {"input", "br", "line", "rect", "circle", "path"}


class Markup(str):
    """Text that is markup already."""


def escape(text: object) -> Markup:
    """Text as markup: `&<>"'` as entities, control and reordering characters written out."""
    return text if isinstance(text, Markup) else Markup(html.escape(words.plain(str(text)), quote=True))


def el(_name: str, *children: object, **attributes: object) -> Markup:
    """One element. Attribute names: a trailing underscore is dropped, others become hyphens; None and False are left
    out, True stands alone. Children are strings, Markup, None (left out) or iterables of these."""
    written = "".join(_attribute(name, value) for name, value in attributes.items())
    if _name in _VOID and not children:
        return Markup(f"<{_name}{written}>") if _name in ("input", "br") else Markup(f"<{_name}{written}/>")
    return Markup(f"<{_name}{written}>{join(children)}</{_name}>")


def join(children: Iterable[object]) -> Markup:
    """Children one after another."""
    parts = []
    for child in children:
        if child is None:
            continue
        parts.append(join(child) if not isinstance(child, str) and isinstance(child, Iterable) else escape(child))
    return Markup("".join(parts))


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(value)}"'


def number(field: str, value: int | float, write: Callable[..., str]) -> Markup:
    """A number that keeps its exact value and the name of the report's field it comes from."""
    return el("data", write(value), value=repr(value), data_field=field)


def interval(field: str, value: tuple[float, float] | None, write: Callable[..., str]) -> Markup:
    """Both ends of an interval, each a number; nothing where there is none."""
    if value is None:
        return Markup("")
    low, high = (number(f"{field}.{index}", end, write) for index, end in enumerate(value))
    return el("span", "[", low, ", ", high, "]", class_="interval")


def piece(text: str) -> Markup:
    """A token as it stands in its text: spaces kept (their glyph can be switched on), line ends and tabs as glyphs."""
    parts: list[object] = []
    for character in text:
        if character == " ":
            parts.append(el("i", " ", class_="sp"))
        elif character in "\n\t\r":
            parts.append(el("i", words.token(character), class_="ws"))
        else:
            parts.append(character)
    return join(parts)
