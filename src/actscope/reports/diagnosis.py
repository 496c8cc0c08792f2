"""What a model is like inside: every measure of a subject, over its layers and over its checkpoints.

`Diagnosis` is what `actscope score MODEL --diagnose` writes to `diagnosis.json` and what the terminal and the page draw.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from string import Template

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from actscope.core.score import Score
from actscope.reports._parts import words
from actscope.reports._parts.figures import FIGURES, Figure, drawn
from actscope.reports._parts.markup import Markup, el, escape, interval, join, number
from actscope.reports._parts.readings import reading

__all__ = ["Diagnosis"]


@dataclass(frozen=True)
class Measure:
    """One measure. cost: what it declared, in words; declared, measured: tokens run forward, in all checkpoints. scores: of the
    model itself, the whole first. why: why it was not taken, else ""."""

    name: str
    cost: str
    declared: int
    measured: int
    seconds: float
    scores: Sequence[Score]
    why: str = ""


@dataclass(frozen=True)
class Checkpoint:
    """The scores of every measure at one step of training."""

    step: int
    scores: Sequence[Score]


@dataclass(frozen=True)
class Diagnosis:
    """tokens, documents: of the text that one pass runs. checkpoints: in order of training; none for a model without any."""

    command: str
    created: str
    model: str
    fingerprint: str
    parameters: int
    layers: int
    width: int
    corpus: str
    documents: int
    tokens: int
    measures: Sequence[Measure]
    checkpoints: Sequence[Checkpoint]
    seed: int
    seconds: float

    def to_json(self) -> dict:
        return dataclasses.asdict(self)

    def score(self, name: str) -> Score | None:
        """The model's score of that name, where it was taken."""
        return next((score for measure in self.measures for score in measure.scores if score.name == name), None)


def declared(measures: Sequence[tuple[str, str, int, str]]) -> RenderableType:
    """What is going to be run, before it is: rows of (measure, cost in words, tokens, why it is left out)."""
    table = Table("measure", "declared cost", "tokens", box=None, pad_edge=False)
    table.columns[2].justify = "right"
    for name, cost, tokens, why in measures:
        table.add_row(
            words.plain(name), words.plain(cost if not why else f"left out: {why}"), "" if why else words.count(tokens)
        )
    return table


def table(diagnosis: Diagnosis) -> RenderableType:
    """The figures on a terminal, with what each declared and took."""
    rows = Table(box=None, pad_edge=False)
    rows.add_column("figure")
    for name in ("value", "95%", "control", "declared, run", "time"):
        rows.add_column(name, justify="right")
    left_out = []
    for measure in diagnosis.measures:
        if measure.why:
            left_out.append(f"{measure.name}: {measure.why}")
        for place, score in enumerate(_whole(measure)):
            ran = (f"{words.short(measure.declared)}, {words.short(measure.measured)}", words.seconds(measure.seconds))
            name = Text.assemble(words.plain(score.name), (f"\n  {words.plain(score.unit)}", "dim"))
            rows.add_row(name, *map(words.plain, _cells(score)), *(ran if place == 0 else ()))
    said = (
        f"{diagnosis.model}: {words.count(diagnosis.tokens)} tokens of {words.count(diagnosis.documents)} documents of "
        f"{diagnosis.corpus}. 95%: bootstrap over documents (geometry: jackknife). declared, measured: tokens run forward."
    )
    told = [Text(words.plain(f"Left out: {one}"), "dim") for one in left_out]
    return Group(Text(), rows, Text(), *told, Text(words.plain(said), "dim"))


def _whole(measure: Measure) -> list[Score]:
    """The figures of the model as a whole."""
    return [score for score in measure.scores if ":" not in score.name]


def _cells(score: Score) -> tuple[str, str, str]:
    spread = "" if score.interval is None else words.between(score.interval, words.figure)
    return words.figure(score.value), spread, "" if score.control is None else words.figure(score.control)


def page(diagnosis: Diagnosis) -> str:
    """The figures and their curves as one HTML file that needs nothing else: no network, no script."""
    name = f"{diagnosis.model}, examined"
    return Template(_template("diagnosis.html")).substitute(
        policy="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
        style=_template("report.css"),
        name=escape(f"{name} - actscope"),
        title=escape(name),
        lede=_lede(diagnosis),
        table=_rows(diagnosis),
        measures=el(
            "div", [_panel(diagnosis, one) for one in FIGURES if diagnosis.score(one.score) is not None], class_="panels"
        ),
        made=_made(diagnosis),
    )


def _template(name: str) -> str:
    return resources.files("actscope.reports").joinpath("templates", name).read_text(encoding="utf-8")


def _lede(diagnosis: Diagnosis) -> Markup:
    run = sum(measure.measured for measure in diagnosis.measures)
    trained = (
        f", and at {len(diagnosis.checkpoints)} checkpoints of its training what one pass shows"
        if diagnosis.checkpoints
        else ""
    )
    return el(
        "p", number("parameters", diagnosis.parameters, words.short), " parameters, ",
        number("layers", diagnosis.layers, words.count), " layers of width ", number("width", diagnosis.width, words.count),
        ". Read on ", number("tokens", diagnosis.tokens, words.count), " tokens in ",
        number("documents", diagnosis.documents, words.count), f" documents of {diagnosis.corpus}{trained}: ", words.short(run),
        " tokens run in all. Bars are 95% intervals over documents; a dashed line is the control, the same figure where there "
        "should be no effect.", class_="lede",
    )  # fmt: skip


def _rows(diagnosis: Diagnosis) -> Markup:
    names = ("figure", "value", "95% interval", "control", "cost declared", "tokens declared", "tokens run", "time")
    head = el("tr", [el("th", name, class_="w" if name == "cost declared" else None) for name in names])
    body = []
    for measure in diagnosis.measures:
        if measure.why:
            name = el("td", measure.name.replace("_", " "))
            body.append(el("tr", name, el("td", f"Left out: {measure.why}.", colspan="7", class_="why")))
        for place, score in enumerate(_whole(measure)):
            ran = (words.count(measure.declared), words.count(measure.measured), words.seconds(measure.seconds))
            cost = [el("td", measure.cost, class_="w"), *(el("td", one) for one in ran)] if place == 0 else [el("td")] * 4
            shown = [
                el("td", score.name.replace("_", " "), el("small", score.unit)),
                el("td", number(f"{score.name}.value", score.value, words.figure)),
                el("td", interval(f"{score.name}.interval", score.interval, words.figure)),
                el("td", "" if score.control is None else words.figure(score.control)),
            ]
            body.append(el("tr", shown, cost))
    return el("div", el("table", el("thead", head), el("tbody", join(body)), class_="figures"), class_="scroll", tabindex="0")


def _panel(diagnosis: Diagnosis, figure: Figure) -> Markup:
    score = diagnosis.score(figure.score)
    assert score is not None, "only figures that were taken are drawn"
    shown: list[object] = [number(f"{score.name}.value", score.value, words.figure), el("small", f" {score.unit}")]
    header = el(
        "header", el("h2", figure.title), el("span", shown, class_="number"), el("p", figure.what, class_="what"),
        el("p", reading(score, diagnosis.measures), class_="reading"),
    )  # fmt: skip
    at_steps = [(one.step, one.scores) for one in diagnosis.checkpoints]
    charts = drawn(figure, [score for measure in diagnosis.measures for score in measure.scores], at_steps)
    kind = "panel measure wide" if len(charts) > 1 else "panel measure"
    return el("section", header, el("div", charts, class_="charts") if charts else None, class_=kind, id=figure.score)


def _made(diagnosis: Diagnosis) -> Markup:
    took = f" on {diagnosis.created}, seed {diagnosis.seed}, in {words.seconds(diagnosis.seconds)}. Weights "
    return el("p", "Made by ", el("code", diagnosis.command), took, el("code", diagnosis.fingerprint[:16]), ".", class_="note")
