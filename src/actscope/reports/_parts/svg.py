"""Charts as inline SVG: fixed type size, colours from the page's style, a sentence for screen readers.

Every function returns one <svg>. Numbers drawn as text keep their exact value beside them (`data-value`).
"""

import math
from collections.abc import Callable, Sequence

from actscope.reports._parts import words
from actscope.reports._parts.markup import Markup, el, join
from actscope.reports.document import Baseline, Effect, Feature, Histogram, Interval

Number = int | float


def frame(width: Number, height: Number, label: str, *children: object, kind: str = "") -> Markup:
    """The svg element with its sentence. The picture never grows beyond its size and shrinks on narrow pages."""
    box = f"0 0 {width:g} {height:g}"
    return el("svg", el("title", label), *children, class_=f"chart {kind}".strip(), viewBox=box, width=f"{width:g}",
              height=f"{height:g}", role="img", aria_label=label)  # fmt: skip


def text(x: Number, y: Number, content: str, kind: str = "", anchor: str = "start", **data: object) -> Markup:
    return el("text", content, x=f"{x:.1f}", y=f"{y:.1f}", class_=kind or None, text_anchor=anchor, **data)


def value(x: Number, y: Number, number: Number, write: Callable[[Number], str], field: str, kind: str = "v") -> Markup:
    return text(x, y, write(number), kind, "end", data_value=repr(number), data_field=field)


def line(x1: Number, y1: Number, x2: Number, y2: Number, kind: str) -> Markup:
    return el("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", class_=kind)


def bar(x1: Number, x2: Number, y: Number, height: Number, kind: str, *children: object) -> Markup:
    """A horizontal bar between two places, in either order; never thinner than a hairline."""
    left, wide = min(x1, x2), max(abs(x2 - x1), 0.75)
    return el(
        "rect", *children, x=f"{left:.1f}", y=f"{y:.1f}", width=f"{wide:.1f}", height=f"{height:.1f}", rx="1.5", class_=kind
    )


def whisker(low: Number, high: Number, y: Number, kind: str) -> Markup:
    """An interval with end caps."""
    return join([line(low, y, high, y, kind), line(low, y - 3.5, low, y + 3.5, kind), line(high, y - 3.5, high, y + 3.5, kind)])


def detection(feature: Feature) -> Markup:
    """Balanced accuracy of the meaning against that with shuffled labels, from 0 to 1, chance marked."""
    width, left, right = 220.0, 84.0, 186.0

    def at(share: Number) -> float:
        return left + (right - left) * share

    rows: list[Markup] = [line(at(0.5), 4, at(0.5), 46, "guide")]
    rows += [text(0, 18, "this meaning", "l"), bar(at(0), at(feature.detection), 8, 13, "ours")]
    if feature.detection_interval is not None:
        low, high = feature.detection_interval
        rows.append(whisker(at(low), at(high), 14.5, "wh"))
    rows.append(value(width, 18, feature.detection, words.share, "detection", "v b"))
    rows += [text(0, 40, "shuffled", "l"), bar(at(0), at(feature.detection_shuffled), 30, 13, "control")]
    rows.append(value(width, 40, feature.detection_shuffled, words.share, "detection_shuffled"))
    rows += [
        text(at(0), 58, "0", "t", "middle"),
        text(at(0.5), 58, "chance", "t", "middle"),
        text(at(1), 58, "1", "t", "middle"),
    ]
    label = (
        f"Balanced accuracy {words.share(feature.detection)}; with shuffled labels {words.share(feature.detection_shuffled)}"
    )
    return frame(width, 62, label, *rows)


def effects(feature: Feature) -> Markup:
    """Both operations on one scale: the feature, its two controls, and the corrected interval of the difference."""
    measured: list[tuple[str, Effect]] = [
        (name, effect) for name, effect in (("ablate", feature.ablate), ("steer", feature.steer)) if effect is not None
    ]
    width, left, right = 312.0, 100.0, 266.0
    reach = _reach([number for _, effect in measured for number in _numbers(effect)])

    def at(number: Number) -> float:
        return left + (right - left) * (number - reach[0]) / (reach[-1] - reach[0])

    rows: list[Markup] = []
    top = 0.0
    for name, effect in measured:
        drawn, top = _operation(name, effect, at, top, width)
        rows += drawn
    zero = line(at(0), 2, at(0), top, "zero")
    ticks = [text(at(tick), top + 11, words.tick(tick), "t", "middle") for tick in {reach[0], 0.0, reach[-1]}]
    said = "; ".join(
        f"{name}: {words.signed(effect.effect)} nats, random directions {words.signed(effect.control_random)}"
        for name, effect in measured
    )
    return frame(width, top + 16, f"Effect on the targets. {said}", zero, *rows, *ticks)


def _operation(
    name: str, effect: Effect, at: Callable[[Number], float], top: Number, width: Number
) -> tuple[list[Markup], float]:
    dose = "" if effect.dose is None else f" ×{effect.dose:g}"
    rows = [text(0, top + 14, f"{name}{dose}", "l b"), bar(at(0), at(effect.effect), top + 5, 11, "ours")]
    rows.append(value(width, top + 14, effect.effect, words.signed, f"{name}.effect", "v b"))
    controls = [
        ("random directions", effect.control_random, "control_random"),
        ("other latents", effect.control_latents, "control_latents"),
    ]
    top += 18
    for label, number, field in controls:
        if number is not None:
            rows += [text(0, top + 12, label, "l"), bar(at(0), at(number), top + 4, 9, "control")]
            rows.append(value(width, top + 12, number, words.signed, f"{name}.{field}"))
            top += 16
    if effect.interval is not None:
        low, high = effect.interval
        shown = low > 0 or high < 0
        rows.append(text(0, top + 12, "difference", "l"))
        rows.append(whisker(at(low), at(high), top + 8.5, "wh sure" if shown else "wh"))
        middle = (at(low) + at(high)) / 2
        rows.append(el("circle", cx=f"{middle:.1f}", cy=f"{top + 8.5:.1f}", r="3", class_="dot" if shown else "dot open"))
        top += 18
    return rows, top + 6


def _numbers(effect: Effect) -> list[float]:
    return [
        n for n in (effect.effect, effect.control_random, effect.control_latents, *(effect.interval or ())) if n is not None
    ]


def _reach(numbers: Sequence[float], most: int = 5) -> list[float]:
    """Round ticks, about `most` steps apart, that span 0 and every number."""
    low, high = min([0.0, *numbers]), max([0.0, *numbers])
    if low == high:
        return [0.0, 1.0]
    sizes = (digit * 10.0**power for power in range(-9, 12) for digit in (1, 2, 5))
    step = next(size for size in sizes if high - low <= most * size)
    return [step * index for index in range(math.floor(low / step), math.ceil(high / step) + 1)]


def histogram(drawn: Histogram) -> Markup:
    """Counts of non-zero activations; heights are square roots of counts, so that rare strong ones are seen."""
    width, height = 220.0, 66.0
    tallest = max([1, *drawn.counts]) ** 0.5
    reach = max(drawn.edges[-1] - drawn.edges[0], 1e-9)
    bars = []
    for index, number in enumerate(drawn.counts):
        x1, x2 = (width * (edge - drawn.edges[0]) / reach for edge in drawn.edges[index : index + 2])
        tall = 44 * number**0.5 / tallest
        said = f"{words.figure(drawn.edges[index])} to {words.figure(drawn.edges[index + 1])}: {words.count(number)} tokens"
        bars.append(
            el(
                "rect",
                el("title", said),
                x=f"{x1 + 0.5:.1f}",
                y=f"{48 - tall:.1f}",
                width=f"{max(x2 - x1 - 1, 0.5):.1f}",
                height=f"{tall:.1f}",
                class_="ours" if number else "none",
            )  # fmt: skip
        )
    ends = [
        text(0, 62, words.figure(drawn.edges[0]), "t"),
        text(width / 2, 62, "activation", "t", "middle"),
        text(width, 62, words.figure(drawn.edges[-1]), "t", "end"),
    ]
    label = f"Non-zero activations from {words.figure(drawn.edges[0])} to {words.figure(drawn.edges[-1])}"
    return frame(width, height, label, *bars, line(0, 48.5, width, 48.5, "axis"), *ends)


def baselines(rows: Sequence[Baseline]) -> Markup:
    """Truth recovery of the dictionary against neurons, PCA and random directions, with intervals, from 0 to 1."""
    width, left, right, step = 460.0, 122.0, 400.0, 30.0

    def at(share: Number) -> float:
        return left + (right - left) * max(0.0, min(1.0, share))

    bottom = step * len(rows) + 2
    drawn: list[Markup] = [line(at(share / 4), 0, at(share / 4), bottom, "guide") for share in range(5)]
    for index, row in enumerate(rows):
        y, ours = index * step, words.is_ours(row.name)
        drawn.append(text(0, y + 19, words.clip(words.baseline(row.name), 18), "l b" if ours else "l"))
        drawn.append(bar(at(0), at(row.value), y + 6, 18, "ours" if ours else "control"))
        if row.interval is not None:
            drawn.append(whisker(at(row.interval[0]), at(row.interval[1]), y + 15, "wh"))
        drawn.append(value(width, y + 19, row.value, words.share, f"baselines.{index}.value", "v b" if ours else "v"))
    ticks = [text(at(share / 4), bottom + 13, f"{share / 4:g}", "t", "middle") for share in range(5)]
    said = ", ".join(f"{words.baseline(row.name)} {words.share(row.value)}" for row in rows)
    return frame(width, bottom + 18, f"Truth recovery: {said}", *drawn, *ticks)


def forest(features: Sequence[Feature]) -> Markup:
    """Every feature's corrected interval of (effect - control), one column each; a column links to its card. The scale is that
    of the features that are caused; an interval that reaches far beyond is cut, with an arrow where it goes on."""
    measured = [(feature, feature.interval) for feature in features if feature.interval is not None]
    left, top, bottom, width = 40.0, 8.0, 188.0, 1140.0
    step = (width - left) / max(len(measured), 12)
    sure = [end for feature, interval in measured for end in interval if feature.caused]
    far = 2 * max(map(abs, sure), default=math.inf)
    reach = _reach([end for _, interval in measured for end in interval if abs(end) <= far] or [0.0])

    def at(number: Number) -> float:
        return bottom - (bottom - top) * (min(max(number, reach[0]), reach[-1]) - reach[0]) / (reach[-1] - reach[0])

    grid = [line(left, at(tick), width, at(tick), "guide") for tick in reach]
    grid += [text(left - 8, at(tick) + 4, words.tick(tick), "t", "end") for tick in reach]
    columns = [
        _column(feature, interval, left + step * (index + 0.5), at, step, (reach[0], reach[-1]))
        for index, (feature, interval) in enumerate(measured)
    ]
    label = f"Effect minus control of {len(measured)} features, 95% corrected; {sum(f.caused for f, _ in measured)} exclude 0"
    return frame(width, bottom + 12, label, *grid, line(left, at(0), width, at(0), "zero"), *columns, kind="forest")


def _column(
    feature: Feature, interval: Interval, x: Number, at: Callable[[Number], float], step: float, reach: tuple[float, float]
) -> Markup:
    low, high = at(interval[0]), at(interval[1])
    middle, kind = (low + high) / 2, "sure" if feature.caused else ""
    said = (
        f"#{feature.latent} {feature.operation or ''}: {words.between(interval)} nats, "
        f"{'caused' if feature.caused else 'not shown'}. {feature.meaning}"
    )
    if feature.operation == "steer":
        path = f"M{x:.1f} {middle - 5:.1f}l5 5l-5 5l-5 -5z"
        mark = el("path", d=path, class_=f"dot {'' if feature.caused else 'open'}".strip())
    else:
        mark = el("circle", cx=f"{x:.1f}", cy=f"{middle:.1f}", r="4", class_=f"dot {'' if feature.caused else 'open'}".strip())
    hit = el("rect", x=f"{x - step / 2:.1f}", y="0", width=f"{step:.1f}", height="196", class_="hit")
    stroke = f"wh {kind}".strip()
    beyond = [
        el("path", d=f"M{x - 3:.1f} {y + way * 5:.1f}l3 {-way * 5}l3 {way * 5}", class_=stroke, fill="none")
        for y, way, cut in ((high, 1, interval[1] > reach[1]), (low, -1, interval[0] < reach[0]))
        if cut
    ]
    return el("a", el("title", said), hit, line(x, low, x, high, stroke), *beyond, mark, href=f"#latent-{feature.latent}")
