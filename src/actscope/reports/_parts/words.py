"""Numbers and token text in words: the terminal and the page say the same thing the same way."""

from collections.abc import Iterable

from actscope.core.plain import WHITESPACE, escape, plain
from actscope.reports.document import Feature, Interval, Report

MINUS = "\N{MINUS SIGN}"
_BASELINES = {
    "dictionary": "this dictionary",
    "sae": "this dictionary",
    "neurons": "neurons",
    "pca": "PCA directions",
    "random": "random directions",
}

_SCORES = {
    "fvu": "variance unexplained (FVU)",
    "l0": "active latents a token (L0)",
    "dead_share": "dead latents",
    "cross_entropy": "cross-entropy recovered",
    "truth_recovery": "truth recovered",
}


def token(piece: str) -> str:
    """A token standing alone: a leading or trailing space is left out, whitespace alone is shown as ␣ ↵ ⇥."""
    if not piece:
        return "(empty)"
    if not piece.strip():
        return "".join(WHITESPACE.get(character, escape(character)) for character in piece)
    return plain(piece.strip(" "))


def tokens(pieces: Iterable[str]) -> str:
    return "  ".join(token(piece) for piece in pieces)


def share(value: int | float) -> str:
    return f"{value:.2f}"


def signed(value: int | float) -> str:
    """Two decimals and a sign; a value that rounds to zero has none."""
    text = f"{value:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text.replace("-", MINUS)


def tick(value: int | float) -> str:
    """A place on an axis that crosses zero."""
    return "0" if value == 0 else f"{value:+g}".replace("-", MINUS)


def percent(value: int | float) -> str:
    """A share as a percentage, with as many digits as small shares need."""
    return f"{100 * value:.0f}%" if value >= 0.1 else f"{100 * value:.1f}%" if value >= 0.01 else f"{100 * value:.2g}%"


def figure(value: int | float) -> str:
    """About three digits, without exponents for everyday sizes."""
    if value == int(value) and abs(value) < 1e15:
        return count(int(value))
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", MINUS)


def count(value: int) -> str:
    return f"{value:,}".replace("-", MINUS)


def short(value: int) -> str:
    """3,842,560 -> "3.8 M"."""
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if value >= size:
            return f"{value / size:.1f} {letter}"
    return str(value)


def chance(value: int | float) -> str:
    """A p-value."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def seconds(value: int | float) -> str:
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def between(interval: Interval, write=signed) -> str:
    return f"[{write(interval[0])}, {write(interval[1])}]"


def baseline(name: str) -> str:
    """What a baseline is called on the page."""
    return _BASELINES.get(name.lower(), name)


def score(name: str) -> str:
    """What a measure of the dictionary is called on the page."""
    return _SCORES.get(name, name.replace("_", " "))


def clip(text: str, most: int) -> str:
    """At most so many characters; the rest is an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"


def is_ours(name: str) -> bool:
    return name.lower() in ("dictionary", "sae")


def surest_first(report: Report) -> list[Feature]:
    """Features that hold and are caused first, those whose interval stands farthest from 0 before others; then those
    that hold, by detection; then the rest."""
    order = {"caused": 0, "detected": 1, "weak": 2}
    return sorted(
        report.features,
        key=lambda f: (order[status(f)], -distance(f) if status(f) == "caused" else 0.0, -f.detection, f.latent),
    )


def status(feature: Feature) -> str:
    """ "caused" (it holds and is caused), "detected" (it holds) or "weak" (detection below the bar)."""
    return "weak" if not feature.holds else "caused" if feature.caused else "detected"


def verdict(feature: Feature) -> str:
    """The status in words, as on a badge."""
    if not feature.holds:
        return "weak detection, caused" if feature.caused else "weak detection"
    return "caused" if feature.caused else "detected only"


def distance(feature: Feature) -> float:
    """How far the corrected interval of (effect - control) stands from 0, in the effect's unit; 0 when it holds 0."""
    low, high = feature.interval or (0.0, 0.0)
    return max(low, -high, 0.0)


def counts(report: Report) -> str:
    """The one line that says how much was tried and how much of it stands."""
    return (
        f"{count(len(report.holding))} of {count(report.tried.candidates)} tried explanations hold; "
        f"{count(len(report.caused))} caused"
    )


def sentence(text: str) -> str:
    """Text with a capital and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".") if text else ""
