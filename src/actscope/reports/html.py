"""The report as one HTML file that needs nothing else: no network, no font, no script but its own.

Everything that comes from data is escaped, and a content policy in the page refuses any other script and every request.
Without JavaScript the page reads the same; the script only filters, sorts and moves the focus.
"""

import base64
import hashlib
from importlib import resources
from string import Template

from actscope.reports._parts import svg, words
from actscope.reports._parts.card import cards
from actscope.reports._parts.markup import Markup, el, escape, interval, join, number
from actscope.reports.document import HOLDS, Report, ScoreLine, check

__all__ = ["html"]


def html(report: Report) -> str:
    """The page. Raises BadInput for a report that contradicts itself."""
    check(report)
    script = _template("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Template(_template("report.html")).substitute(
        policy=f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'",
        name=escape(f"{report.title} - actscope"),
        style=_template("report.css"),
        script=script,
        header=_header(report),
        summary=_summary(report),
        charts=_charts(report),
        total=words.count(len(report.features)),
        cards=cards(report),
        meanings=_definitions(report),
        made=_made(report),
    )


def _template(name: str) -> str:
    return resources.files("actscope.reports").joinpath("templates", name).read_text(encoding="utf-8")


def _header(report: Report) -> Markup:
    subject, fitted = report.subject, report.dictionary
    lede = el(
        "p",
        "We read ", number("corpus.rows", report.corpus.rows, words.count), f" tokens of {report.corpus.name} through ",
        el("b", subject.name), f" at {report.site}, fitted a dictionary of ",
        number("dictionary.latents", fitted.latents, words.count), " latents, and tried ",
        number("tried.candidates", report.tried.candidates, words.count), " explanations. ",
        el("b", f"{words.count(len(report.holding))} hold"), " on documents kept aside; for ",
        el("b", f"{words.count(len(report.caused))} of them"),
        " changing the latent in the running model moves its target tokens more than the controls do.",
        class_="lede",
    )  # fmt: skip
    return join([el("p", "actscope", class_="brand"), el("h1", report.title), lede])


def _summary(report: Report) -> Markup:
    tried, features, holding = report.tried, report.features, report.holding
    tiles = [
        _tile("explanations hold", [words.count(len(holding)), _of(" of ", tried.candidates)],
              f"Explanations with a detection of at least {HOLDS:g} on documents kept aside, out of all that were "
              f"tried. The best {words.count(len(features))} of the select split are reported."),
        _tile("caused", [words.count(len(report.caused)), _of(" of ", len(holding))],
              "Features that hold and for which the corrected 95% interval of (effect - control) excludes 0."),
    ]  # fmt: skip
    if features:
        mean = sum(feature.detection for feature in features) / len(features)
        shuffled = sum(feature.detection_shuffled for feature in features) / len(features)
        tiles.append(
            _tile(
                "mean detection / shuffled",
                [words.share(mean), el("small", f" / {words.share(shuffled)}")],
                "Balanced accuracy of a meaning at predicting where its latent fires, averaged over the features; "
                "beside it the same with permuted labels.",
            )  # fmt: skip
        )
    tiles += [_score(index, score) for index, score in enumerate(report.scores)]
    live = [number("tried.live", tried.live, words.count), _of(" of ", tried.latents)]
    tiles.append(_tile("live latents", live, "Latents active on at least one held-out token, out of all in the dictionary."))
    return el("div", tiles, class_="tiles")


def _of(word: str, total: int) -> Markup:
    return el("small", f"{word}{words.count(total)}")


def _score(index: int, score: ScoreLine) -> Markup:
    write = words.percent if score.name == "dead_share" else words.figure
    shown: list[object] = [number(f"scores.{index}.value", score.value, write)]
    more: list[object] = [f" Unit: {score.unit}."] if score.unit else []
    if score.interval is not None:
        more += [" 95%: ", interval(f"scores.{index}.interval", score.interval, write), "."]
    if score.control is not None:
        more += [" Control: ", number(f"scores.{index}.control", score.control, write), "."]
    return _tile(words.score(score.name), shown, [words.sentence(score.definition), *more])


def _tile(label: str, value: object, definition: object) -> Markup:
    tip = el("span", definition, class_="tip", role="note")
    return el("div", el("span", value, class_="value"), el("span", label, class_="label"), tip, class_="tile", tabindex="0")


def _charts(report: Report) -> Markup:
    drawn: list[Markup] = []
    ordered = words.surest_first(report)
    if any(feature.interval is not None for feature in ordered):
        legend = el(
            "p", el("span", "● ablate", class_="k"), " ", el("span", "◆ steer", class_="k"),
            " Filled: the interval excludes 0. Each mark leads to its feature.", class_="note",
        )  # fmt: skip
        plot = el(
            "div", svg.forest(ordered), class_="scroll", tabindex="0", role="region", aria_label="Effects of every feature"
        )
        drawn.append(el("section", el("h2", "What each feature causes"), _axis_note(), plot, legend, class_="panel wide"))
    if report.baselines:
        note = "Mean over the causes known by construction of the best unit's F1 on held-out documents, same search for each."
        chart = svg.baselines(report.baselines)
        drawn.append(el("section", el("h2", "Truth recovered"), el("p", note, class_="note"), chart, class_="panel"))
    if report.stages:
        drawn.append(el("section", el("h2", "Where the time went"), _stages(report), class_="panel"))
    return el("div", drawn, class_="panels")


def _axis_note() -> Markup:
    return el("p", "Effect on the targets' log-probability minus the control's, in nats; 95% intervals corrected over all "
              "features. An arrow: it goes on beyond the picture.", class_="note")  # fmt: skip


def _stages(report: Report) -> Markup:
    longest = max((stage.seconds for stage in report.stages), default=0.0) or 1.0
    rows = [
        el(
            "li",
            el("span", stage.name),
            el("i", style=f"--w:{stage.seconds / longest:.3f}", class_="bar"),
            number(f"stages.{index}.seconds", stage.seconds, words.seconds),
        )  # fmt: skip
        for index, stage in enumerate(report.stages)
    ]
    total = el("li", el("b", "in all"), el("i", class_="bar none"), el("b", number("seconds", report.seconds, words.seconds)))
    return el("ol", rows, total, class_="stages")


def _definitions(report: Report) -> Markup:
    splits, tried = report.splits, report.tried
    said: list[tuple[str, object]] = [
        ("Meaning", "A rule over tokens, found without a language model and written as a sentence. It says on which tokens the "
         "latent is active."),
        ("Detection", "Balanced accuracy: the mean of the share of active tokens the rule catches and the share of inactive "
         "tokens it leaves alone. 0.50 is chance. Shuffled: the same rule judged with the contexts' labels permuted."),
        ("Holds", f"Detection of at least {HOLDS:g} on documents that no earlier step saw."),
        ("Effect", "Signed change of the log of the targets' summed probability, in nats, at tokens where the latent is "
         "active, when it is taken out (ablate) or turned up (steer; × is the dose in multiples of its mean activation) in the "
         "running model. Targets: the next tokens that lose most when it is taken out, found on the select split."),
        ("Controls", "The same operation at the same places with random directions, drawn anew at every place, and with other "
         "latents active there, scaled to the same size."),
        ("Difference", "Effect minus the mean of a control, with a 95% bootstrap interval over documents, corrected over every "
         "operation of every feature (Holm). Of the two controls, the one that leaves less is shown. A feature is caused when "
         "the interval excludes 0 on the expected side: taking out lowers the targets, turning up raises them."),
        ("Splits", ["Documents are split in three without overlap: ", number("splits.propose", splits.propose, words.count),
         " to propose meanings, ", number("splits.select", splits.select, words.count), " to select them, ",
         number("splits.report", splits.report, words.count), " to report. Detection and effects on a card are of the last."]),
        ("Number tried", ["Of ", number("tried.latents", tried.latents, words.count), " latents, ",
         number("tried.live", tried.live, words.count), " are live; ",
         number("tried.candidates", tried.candidates, words.count), " explanations were judged and ",
         number("tried.reported", tried.reported, words.count), " are reported."]),
        ("Truth", "What the text's generator knows of every token. No method sees it; it is shown beside a feature as the F1 "
         "with which the latent alone detects the cause."),
        ("Contexts", "Stronger activations have a stronger background and a thicker underline; the outlined token is the one "
         "chosen. Open a line to read it whole."),
    ]  # fmt: skip
    said += [(words.score(score.name), words.sentence(score.definition)) for score in report.scores if score.definition]
    return el("dl", [[el("dt", name), el("dd", text)] for name, text in said], class_="meanings")


def _made(report: Report) -> Markup:
    subject, fitted = report.subject, report.dictionary
    active = "" if fitted.k is None else f", {fitted.k} active a token"
    settings = "; ".join(f"{key} {value}" for key, value in sorted(fitted.settings.items()))
    facts: list[tuple[str, object]] = [
        ("Command", el("code", report.command)),
        ("Made", report.created),
        ("Model", [subject.name, ", ", number("subject.parameters", subject.parameters, words.count), " parameters, ",
                   number("subject.layers", subject.layers, words.count), " layers of width ",
                   number("subject.width", subject.width, words.count)]),
        ("Weights", el("code", subject.fingerprint)),
        ("Text", [f"{report.corpus.name}, ", number("corpus.documents", report.corpus.documents, words.count), " documents"]),
        ("Dictionary", [f"{fitted.method}{active}, fitted on ", number("dictionary.rows", fitted.rows, words.count), " rows",
                        f" ({settings})" if settings else ""]),
    ]  # fmt: skip
    return el("dl", [[el("dt", name), el("dd", value)] for name, value in facts], class_="made")
