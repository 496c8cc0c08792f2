"""Curves as inline SVG: values with their intervals over a few places in order, or over a logarithm.

Every function returns one <svg>. A mark says its exact value to who points at it, and keeps it beside (`data-value`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from actscope.reports._parts import svg, words
from actscope.reports._parts.markup import Markup, el

Interval = tuple[float, float]
WIDTH, HEIGHT = 520.0, 270.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 16.0, 14.0, 46.0


@dataclass(frozen=True)
class Point:
    x: float
    y: float
    interval: Interval | None = None
    said: str = ""  # what stands at x, for who points at it


@dataclass(frozen=True)
class Line:
    """A series. colour: CSS; kind: "mark" (points, whiskers, joined), "plain" (a thin line), "control" (dashed), "dots" (faint
    points not joined)."""

    name: str
    points: Sequence[Point]
    colour: str
    kind: str = "mark"


@dataclass(frozen=True)
class Axis:
    """title with its unit. ticks: (place, words) in place of round numbers; log: base 10; span: at least this much is shown."""

    title: str
    ticks: Sequence[tuple[float, str]] = ()
    log: bool = False
    span: Interval | None = None


def chart(lines: Sequence[Line], x: Axis, y: Axis, label: str) -> Markup:
    """Series on two axes, the controls behind."""
    points = [point for line in lines for point in line.points]
    across = _scale([point.x for point in points], x, (_LEFT, WIDTH - _RIGHT), pad=0.04)
    reach = [end for line in lines for point in line.points for end in (point.y, *(point.interval or ()))]
    up = _scale(reach, y, (HEIGHT - _BOTTOM, _TOP), pad=0.06)
    drawn = [*_across(across, x), *_up(up, y)]
    order = {"control": 0, "dots": 1, "plain": 2, "mark": 3}
    for line in sorted(lines, key=lambda line: order[line.kind]):
        drawn += _line(line, across.at, up.at)
    return svg.frame(WIDTH, HEIGHT, label, *drawn, kind="curves")


@dataclass(frozen=True)
class _Scale:
    at: Callable[[float], float]
    low: float
    high: float


def _scale(values: Sequence[float], axis: Axis, ends: tuple[float, float], *, pad: float) -> _Scale:
    """From numbers to places on the page."""
    known = [value for value in (*values, *(axis.span or ())) if not axis.log or value > 0] or [1.0]
    low, high = min(known), max(known)
    turn = math.log10 if axis.log else float
    a, b = turn(low), turn(high)
    if b - a < 1e-9:
        a, b = a - 0.5, b + 0.5
    keep_low, keep_high = (
        axis.span is not None and end == edge for end, edge in zip((low, high), axis.span or (0, 0), strict=True)
    )
    room = pad * (b - a)
    a, b = a if keep_low else a - room, b if keep_high else b + room

    def at(value: float) -> float:
        place = (turn(max(value, 1e-12) if axis.log else value) - a) / (b - a)
        return ends[0] + (ends[1] - ends[0]) * min(max(place, 0.0), 1.0)

    back: Callable[[float], float] = (lambda one: 10.0**one) if axis.log else float
    return _Scale(at, back(a), back(b))


def _across(scale: _Scale, axis: Axis) -> list[Markup]:
    floor = HEIGHT - _BOTTOM
    drawn = [svg.line(_LEFT, floor, WIDTH - _RIGHT, floor, "axis")]
    for place, said in axis.ticks or _ticks(scale, axis):
        drawn.append(svg.line(scale.at(place), floor, scale.at(place), floor + 4, "axis"))
        drawn.append(svg.text(scale.at(place), floor + 17, said, "t", "middle"))
    return [*drawn, svg.text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 8, axis.title, "name", "middle")]


def _up(scale: _Scale, axis: Axis) -> list[Markup]:
    drawn = []
    for place, said in axis.ticks or _ticks(scale, axis):
        drawn.append(svg.line(_LEFT, scale.at(place), WIDTH - _RIGHT, scale.at(place), "grid"))
        drawn.append(svg.text(_LEFT - 7, scale.at(place) + 4, said, "t", "end"))
    middle = (HEIGHT - _BOTTOM + _TOP) / 2
    title = el(
        "text",
        axis.title,
        x="0",
        y="0",
        class_="name",
        text_anchor="middle",
        transform=f"translate(11 {middle:.0f}) rotate(-90)",
    )
    return [*drawn, title]


def _ticks(scale: _Scale, axis: Axis) -> list[tuple[float, str]]:
    """Round numbers inside the scale: about five, or the powers of ten with 2 and 5 where these are few."""
    low, high = scale.low, scale.high
    if axis.log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        many = math.log10(high / low) > 2.2
        found = [digit * 10.0**power for power in powers for digit in ((1,) if many else (1, 2, 5))]
        return [(one, _short(one)) for one in found if low * 0.999 <= one <= high * 1.001]
    sizes = (digit * 10.0**power for power in range(-9, 12) for digit in (1, 2, 5))
    size = next(size for size in sizes if high - low <= 5.5 * size)
    steps = range(math.ceil(low / size - 1e-9), math.floor(high / size + 1e-9) + 1)
    return [(step * size, _short(step * size)) for step in steps]


def _short(number: float) -> str:
    """A tick: 10k for 10,000."""
    if number >= 1000:
        return f"{number / 1000:g}k"
    return f"{float(f'{number:.6g}'):g}".replace("-", words.MINUS)


def _line(line: Line, across: Callable[[float], float], up: Callable[[float], float]) -> list[Markup]:
    places = [(across(point.x), up(point.y), point) for point in sorted(line.points, key=lambda point: point.x)]
    drawn: list[Markup] = []
    style = f"stroke:{line.colour}"
    if len(places) > 1 and line.kind != "dots":
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in places)
        drawn.append(el("path", d=path, style=style, class_={"control": "dash"}.get(line.kind, "join")))
    for x, y, point in places:
        said = f"{line.name}{', ' if point.said else ''}{point.said}: {words.figure(point.y)}"
        if point.interval is not None:
            said += f" {words.between(point.interval, words.figure)}"
        parts: list[Markup] = [el("title", said)]
        if point.interval is not None and line.kind == "mark":
            low, high = (up(end) for end in point.interval)
            parts.append(el("path", d=f"M{x:.1f} {low:.1f}V{high:.1f}", style=style, class_="whisk"))
        size = {"mark": 4.0, "plain": 2.6, "dots": 2.4, "control": 2.2}[line.kind]
        fill = f"fill:{line.colour}" + (";opacity:.45" if line.kind == "dots" else "")
        parts.append(el("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=f"{size:g}", style=fill, data_value=repr(point.y)))
        drawn.append(el("g", *parts))
    return drawn
