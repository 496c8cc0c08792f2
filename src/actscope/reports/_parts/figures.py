"""Which curves are drawn of a diagnosis, and what is said of each: over layers, lags or levels, and over checkpoints."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from actscope.core.score import Score
from actscope.core.site import Site
from actscope.reports._parts import words
from actscope.reports._parts.curves import Axis, Line, Point, chart
from actscope.reports._parts.markup import Markup, el

_OURS, _CONTROL = "var(--ours)", "var(--control)"
_MOST = 8  # layers named in a legend


@dataclass(frozen=True)
class Figure:
    """score: the name of the model's own; of: the prefix of the names of its curve's scores. better: for the caption."""

    score: str
    title: str
    what: str
    y: str
    over: Literal["layers", "lags", "levels"] = "layers"
    of: str = ""
    log: bool = False
    span: tuple[float, float] | None = None
    heads: bool = False
    second: tuple[str, str] | None = None  # (part, its name): a thinner line beside
    control: str = "control"
    series: str = ""  # what the curve is called in the legend; y where left out

    @property
    def prefix(self) -> str:
        return self.of or self.score


FIGURES = (
    Figure(
        "massive_activations", "Massive activations",
        "The largest number in the stream over its median size, a sequence at a time. Neither good nor bad: large ones act as "
        "biases that attention sinks rest on, and are what breaks quantization. Sun et al. 2024.",
        "top / median", log=True, control="normal draws",
    ),
    Figure(
        "attention_sinks", "Attention sinks",
        "The share of heads that pay the first token more than 0.3 of their attention; faint dots: what each head pays it. "
        "Neither good nor bad: a sink lets a head do nothing. Gu et al. 2024.",
        "share of heads", span=(0.0, 1.0), heads=True, series="heads with a sink", control="another token",
    ),
    Figure(
        "activation_sparsity", "Lazy neurons",
        "The share of MLP neurons that are open at a token (for ReLU: not zero), and the least share that holds 99% of the "
        "squares. Lower: fewer neurons do the work, which is cheaper to run and easier to read. Li et al. 2022.",
        "share of neurons", span=(0.0, 0.6), second=("effective", "hold 99% of squares"), series="open", control="chance",
    ),
    Figure(
        "rankme", "Dimensions in use",
        "RankMe: exp of the entropy of the singular values of the centred rows. Low means collapse into few directions; the "
        "control has the same coordinates shuffled apart. Garrido et al. 2022.",
        "dimensions", control="coordinates shuffled",
    ),
    Figure(
        "alpha", "Decay of the spectrum",
        "The exponent with which the covariance's eigenvalues fall over their rank, between d/16 and d/2. Near 1 is what "
        "trained networks that generalize tend to; far above it, few directions carry all. Agrawal et al. 2022.",
        "exponent alpha", control="coordinates shuffled",
    ),
    Figure(
        "word_classes", "Classes of the next word",
        "Generalized discrimination value of hidden vectors by the class of the word that comes next: 0 where classes are "
        "mixed, -1 where they are apart. Lower: the layer holds what kind of word it expects. Surendra et al. 2023.",
        "GDV", control="labels permuted",
    ),
    Figure(
        "void_layers", "Void layers",
        "The share of tokens that a layer makes no longer (L2 adaptive computation). Whether such a layer does nothing is "
        "another matter: the loss when it is skipped says so. Shemiranifar 2025.",
        "share of tokens", span=(0.0, 1.0),
    ),
    Figure(
        "influence", "Reach of one token",
        "How much the prediction at a later place changes when one token is replaced, by how many tokens lie between. Neither "
        "good nor bad: slow decay is a long memory. The control moves the embedding as far in a random direction. Kim et al. "
        "2025.",
        "KL, nats a place", over="lags", log=True, control="random direction",
    ),
    Figure(
        "eigenscore", "Agreement of answers",
        "EigenScore: how far ten sampled continuations of a prompt are apart in the middle layer. Lower: the model says the "
        "same each time. The control takes continuations of different prompts. Chen et al. 2024.",
        "mean log eigenvalue",
    ),
    Figure(
        "concepts_under_noise", "Concepts under noise",
        "Latents of the dictionary that are active in a sequence as it is shuffled towards noise. A rise means that the model "
        "sees more concepts where there is less to see. Suresh et al. 2025.",
        "latents a sequence", over="levels", of="concepts", control="random directions",
    ),
    Figure(
        "massive_dynamics", "How massive activations come up",
        "How much of the ratio's course over training a five-parameter curve explains (R2). With so many parameters and so few "
        "checkpoints chance explains much: the control fits the same ratios in random orders. Gallego-Feliciano et al. 2025.",
        "R2", span=(0.0, 1.0), control="steps shuffled",
    ),
)  # fmt: skip


def drawn(figure: Figure, scores: Sequence[Score], steps: Sequence[tuple[int, Sequence[Score]]]) -> list[Markup]:
    """The figure's charts: over layers (lags, levels), and over checkpoints where it was taken at them."""
    own = _curve(figure, scores)
    charts = []
    if len(own) > 1:
        charts.append(_over_places(figure, own))
    told = [(step, _curve(figure, found)) for step, found in steps]
    told = [(step, curve) for step, curve in told if curve]
    if len(told) > 1 and figure.over == "layers":
        charts.append(_over_steps(figure, told))
    return charts


def _curve(figure: Figure, scores: Sequence[Score]) -> list[tuple[float, Score]]:
    """(place, score) of every score of the figure's curve: the number of a layer (0 embeddings), a lag, a level."""
    found = []
    for score in scores:
        name, _, where = score.name.partition(":")
        if name == figure.prefix and where:
            found.append((_place(where), score))
    return sorted(found, key=lambda pair: pair[0])


def _place(where: str) -> float:
    if where.startswith(("lag ", "level ")):
        return float(where.split()[1])
    layer = Site.parse(where).layer
    return -1.0 if layer is None else float(layer)


def _over_places(figure: Figure, curve: Sequence[tuple[float, Score]]) -> Markup:
    lag = figure.over == "lags"
    shift = 1.0 if lag else 0.0  # lag 0 stands on a logarithmic axis too
    lines = [
        Line(figure.title.lower(), [Point(x + shift, one.value, one.interval, _said(figure, x)) for x, one in curve], _OURS)
    ]
    legend = [(figure.series or figure.y, _OURS, "")]
    if figure.second is not None:
        part, name = figure.second
        lines.append(
            Line(name, [Point(x, one.parts[part], None, _said(figure, x)) for x, one in curve], "var(--hot-line)", "plain")
        )
        legend.append((name, "var(--hot-line)", ""))
    if figure.heads:
        dots = [
            Point(x, share, None, f"{_said(figure, x)}, {name}")
            for x, one in curve
            for name, share in one.parts.items()
            if name.startswith("head ")
        ]
        lines.append(Line("attention to the first token", dots, _OURS, "dots"))
        legend.append(("attention of each head to the first token", _OURS, "dot"))
    if all(one.control is not None for _, one in curve):
        points = [Point(x + shift, one.control or 0.0, None, _said(figure, x)) for x, one in curve]
        lines.append(Line(f"control, {figure.control}", points, _CONTROL, "control"))
        legend.append((f"control: {figure.control}", _CONTROL, "dash"))
    label = f"{figure.title}: " + "; ".join(f"{_said(figure, x)} {words.figure(one.value)}" for x, one in curve)
    title = {"layers": "layer", "lags": "tokens after the replaced one", "levels": "noise"}[figure.over]
    axis = Axis(title, _ticks(figure, [x for x, _ in curve]), log=lag)
    y = Axis(
        figure.y, log=figure.log, span=figure.span or (None if figure.log else (0.0, 0.0) if figure.over != "layers" else None)
    )
    heading = {"layers": "Over layers", "lags": "Over distance", "levels": "Over noise"}[figure.over]
    return el("figure", el("figcaption", heading), chart(lines, axis, y, label), _legend(legend))


def _said(figure: Figure, x: float) -> str:
    if figure.over == "layers":
        return "embeddings" if x < 0 else f"layer {x:g}"
    return f"lag {x:g}" if figure.over == "lags" else dict(_LEVELS)[x]


_LEVELS = ((0.0, "text"), (1.0, "8-grams"), (2.0, "4-grams"), (3.0, "2-grams"), (4.0, "tokens"), (5.0, "random"))


def _ticks(figure: Figure, xs: Sequence[float]) -> list[tuple[float, str]]:
    if figure.over == "levels":
        return list(_LEVELS)
    if figure.over == "lags":
        return [(x + 1, f"{x:g}" if x < 2 else f"{x:g}+") for x in xs]
    every = max(1, round(len(xs) / 12))
    return [(x, "embed" if x < 0 else f"{x:g}") for x in xs if x < 0 or x % every == 0]


def _over_steps(figure: Figure, told: Sequence[tuple[int, Sequence[tuple[float, Score]]]]) -> Markup:
    places = [x for x, _ in told[0][1]]
    lines = []
    for number, place in enumerate(places):
        points = [
            Point(float(step), score.value, score.interval, f"step {words.count(step)}")
            for step, curve in told
            for x, score in curve
            if x == place
        ]
        lines.append(Line(_said(figure, place), points, _colour(number, len(places)), "plain"))
    last = told[-1][1]
    label = f"{figure.title} over {len(told)} checkpoints; at the last " + "; ".join(
        f"{_said(figure, x)} {words.figure(score.value)}" for x, score in last
    )
    every = max(1, -(-len(places) // _MOST))
    legend = [
        (_said(figure, place), _colour(number, len(places)), "") for number, place in enumerate(places) if number % every == 0
    ]
    y = Axis(figure.y, log=figure.log, span=figure.span)
    return el("figure", el("figcaption", "Over training"), chart(lines, Axis("step", log=True), y, label), _legend(legend))


def _colour(number: int, count: int) -> str:
    """From blue for the first layer to red for the last, of one lightness."""
    return f"oklch(0.62 0.15 {250 - 225 * number / max(count - 1, 1):.0f})"


def _legend(entries: Sequence[tuple[str, str, str]]) -> Markup:
    shown = []
    for name, colour, kind in entries:
        style = f"background:{colour}" if kind == "dot" else f"border-color:{colour}"
        shown.append(el("span", el("i", style=style, class_=kind or None), name))
    return el("p", shown, class_="legend")
