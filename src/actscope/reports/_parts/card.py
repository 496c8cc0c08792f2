"""One feature as a card: what it is said to mean, where it fires, what it does, and what is true of it."""

from collections.abc import Sequence

from actscope.reports._parts import svg, words
from actscope.reports._parts.markup import Markup, el, interval, join, number, piece
from actscope.reports.document import Effect, Feature, Report, Shown, Weighted

_TABS = (
    ("top", "Strongest", "the tokens on which it is most active"),
    ("quantile", "Quantiles", "from its strongest activations down to its weakest, evenly by rank"),
    ("random", "Random", "drawn at random among the tokens on which it is active"),
)


def card(feature: Feature, rank: int, truth_known: bool) -> Markup:
    """The whole card. rank: its place when the surest come first; truth_known: whether to say so when no cause is near."""
    number_id = f"latent-{feature.latent}"
    badge = el("span", words.verdict(feature), class_=f"badge {words.status(feature)}")
    head = el(
        "header",
        el("a", f"#{feature.latent}", href=f"#{number_id}", class_="latent", title="Link to this feature"),
        badge,
        el("h3", feature.meaning, id=f"{number_id}-meaning"),
        el("p", _verdict(feature), class_="verdict"),
    )
    fires = el("section", el("h4", "Where it fires"), svg.detection(feature), _density(feature), class_="fires")
    does = el("section", el("h4", "What it does"), _effect_plot(feature), _targets(feature), class_="does")
    body = [head, _truth(feature, truth_known), el("div", fires, does, class_="pair"), _contexts(feature), _tokens(feature)]
    return el(
        "article",
        *body,
        _numbers(feature),
        class_="card",
        id=number_id,
        tabindex="-1",
        aria_labelledby=f"{number_id}-meaning",
        data_latent=feature.latent,
        data_status=words.status(feature),
        data_rank=rank,
        data_detection=repr(feature.detection),
        data_density=repr(feature.density),
        data_text=_search_text(feature),
    )


def _verdict(feature: Feature) -> list[object]:
    if feature.effect is None or feature.operation is None:
        return ["No effect was measured for this feature."]
    verb = "Taking it out" if feature.operation == "ablate" else "Turning it up"
    direction = "raises" if feature.effect > 0 else "lowers"
    said: list[object] = [f"{verb} {direction} the log-probability of its target tokens: "]
    said += [el("b", number("effect", feature.effect, words.signed), " ", feature.unit)]
    if feature.effect_control is not None:
        said += [", control ", number("effect_control", feature.effect_control, words.signed)]
    if feature.interval is not None:
        said += [", difference ", interval("interval", feature.interval, words.signed)]
    return [*said, "." if feature.caused else ": not told apart from the control."]


def _density(feature: Feature) -> Markup:
    drawn = None if feature.histogram is None else svg.histogram(feature.histogram)
    active = ["Active on ", number("density", feature.density, words.percent), " of tokens; judged on "]
    return join([drawn, el("p", *active, number("contexts", feature.contexts, words.count), " contexts.", class_="note")])


def _effect_plot(feature: Feature) -> Markup:
    if feature.ablate is None and feature.steer is None:
        return el("p", "Not measured.", class_="note")
    return svg.effects(feature)


def _targets(feature: Feature) -> Markup | None:
    if not feature.targets:
        return None
    return el("p", el("span", "Targets", class_="key"), [chip(target) for target in feature.targets], class_="chips targets")


def chip(text: str, *more: object, title: str = "") -> Markup:
    """A token on its own, spaces visible by its background; the title gives it exactly."""
    shown = piece(text) if text else "(empty)"
    return join([el("span", el("code", shown), more, class_="chip", title=title or repr(text)), " "])


def _truth(feature: Feature, known: bool) -> Markup | None:
    if not feature.truth:
        return el("p", "Truth: no labelled cause is near this feature.", class_="truth none") if known else None
    chips = [
        el(
            "span",
            truth.cause,
            " ",
            el("span", "F1 ", number(f"truth.{index}.f1", truth.f1, words.share), class_="f1"),
            class_="cause",
        )
        for index, truth in enumerate(feature.truth)
    ]
    return el(
        "p", el("span", "Truth", class_="key", title="Causes known by construction; no method saw them."), chips, class_="truth"
    )


def _contexts(feature: Feature) -> Markup | None:
    tabs: list[Markup] = []
    panes: list[Markup] = []
    for name, label, hint in _TABS:
        shown: Sequence[Shown] = getattr(feature.examples, name)
        if not shown:
            continue
        tab = f"tab-{feature.latent}-{name}"
        tabs.append(el("input", type="radio", id=tab, name=f"tabs-{feature.latent}", checked=not tabs))
        panes.append(el("label", label, for_=tab, title=f"Contexts {hint}"))
    if not tabs:
        return None
    strongest = max((line.activation for name, *_ in _TABS for line in getattr(feature.examples, name)), default=0.0)
    boxes = [
        el("div", [_context(line, strongest) for line in getattr(feature.examples, name)], class_="pane")
        for name, _, _ in _TABS
        if getattr(feature.examples, name)
    ]
    ordered = [part for pair in zip(tabs, panes, strict=True) for part in pair]
    return el("fieldset", el("legend", "Contexts", class_="sr"), ordered, boxes, class_="tabs")


def _context(line: Shown, strongest: float) -> Markup:
    left = [_weighted(token, strongest) for token in line.before]
    peak = el(
        "mark",
        piece(line.piece),
        class_="peak",
        style=_strength(line.activation, strongest),
        title=words.figure(line.activation),
    )
    right = [_weighted(token, strongest) for token in line.after]
    row = el(
        "summary",
        el("span", words.figure(line.activation), class_="act"),
        el("span", el("span", left), class_="before"),
        el("span", peak, right, class_="after"),
    )
    place = el("p", f"Document {line.document}, token {words.count(line.position)}.", class_="note")
    return el("details", row, place, class_="context")


def _weighted(token: Weighted, strongest: float) -> Markup:
    text, activation = token
    if activation <= 0:
        return piece(text)
    return el("mark", piece(text), style=_strength(activation, strongest), title=words.figure(activation))


def _strength(activation: float, strongest: float) -> str:
    return f"--a:{max(0.0, min(1.0, activation / strongest)) if strongest > 0 else 0:.2f}"


def _tokens(feature: Feature) -> Markup | None:
    rows = []
    for name, label, tokens in (("promotes", "Promotes", feature.promotes), ("suppresses", "Suppresses", feature.suppresses)):
        if tokens:
            values = [
                chip(text, el("small", number(f"{name}.{index}.1", weight, words.signed)))
                for index, (text, weight) in enumerate(tokens)
            ]
            rows.append(el("p", el("span", label, class_="key"), values, class_="chips"))
    return el("div", rows, class_="logits") if rows else None


def _numbers(feature: Feature) -> Markup:
    """The table twin of the card's charts."""
    rows: list[Markup] = []
    for name, effect in (("ablate", feature.ablate), ("steer", feature.steer)):
        if effect is not None:
            rows.append(_effect_row(name, effect))
    heads = ("", "effect", "random directions", "other latents", "difference, 95%", "p", "documents")
    table = (
        el("table", el("thead", el("tr", [el("th", head, scope="col") for head in heads])), el("tbody", rows)) if rows else None
    )
    facts: list[object] = []
    if feature.detection_interval is not None:
        facts += [el("dt", "detection, 95%"), el("dd", interval("detection_interval", feature.detection_interval, words.share))]
    for name, part in feature.detection_parts.items():
        facts += [el("dt", name), el("dd", number(f"detection_parts.{name}", part, words.figure))]
    return el(
        "details",
        el("summary", "All numbers"),
        el("div", table, class_="scroll"),
        el("dl", facts, class_="facts"),
        class_="numbers",
    )


def _effect_row(name: str, effect: Effect) -> Markup:
    dose = [
        "" if effect.dose is None else " ×",
        "" if effect.dose is None else number(f"{name}.dose", effect.dose, words.figure),
    ]
    cells = [
        number(f"{name}.effect", effect.effect, words.signed),
        number(f"{name}.control_random", effect.control_random, words.signed),
        "" if effect.control_latents is None else number(f"{name}.control_latents", effect.control_latents, words.signed),
        interval(f"{name}.interval", effect.interval, words.signed),
        "" if effect.p is None else number(f"{name}.p", effect.p, words.chance),
        number(f"{name}.n", effect.n, words.count),
    ]
    return el("tr", el("th", name, *dose, scope="row"), [el("td", cell) for cell in cells])


def _search_text(feature: Feature) -> str:
    causes = " ".join(truth.cause for truth in feature.truth)
    return f"#{feature.latent} {feature.meaning} {' '.join(feature.targets)} {causes}".lower()


def cards(report: Report) -> Markup:
    """Every feature, the surest causes first."""
    known = any(feature.truth for feature in report.features)
    return join(card(feature, rank, known) for rank, feature in enumerate(words.surest_first(report)))
