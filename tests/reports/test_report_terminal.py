"""The terminal: the same figures as the report, safe to print, readable without colour, plain lines in a log."""

import io
import re
from dataclasses import replace

import pytest
from report_fixture import example_report, hostile_report
from rich.console import Console

from actscope.core.errors import BadInput
from actscope.reports import terminal

REPORT = example_report()
NEXT = [("open runs/demo/report.html", "every feature"), ("actscope demo --text FILE", "the same on your own text")]


def printed(report, width=110, **settings) -> str:
    then = settings.pop("then", NEXT)
    rows = settings.pop("rows", None)
    console = Console(file=io.StringIO(), width=width, highlight=False, **settings)
    console.print(terminal.result(report, rows=rows, then=then))
    return console.file.getvalue()


@pytest.mark.parametrize("width", [50, 80, 110, 160])
def test_every_feature_is_listed_with_its_figures(width):
    text = printed(REPORT, width).replace("\N{MINUS SIGN}", "-")
    for feature in REPORT.features:
        assert re.search(rf"^ *{feature.latent} ", text, re.M)
        assert f"{feature.detection:.2f}" in text and f"({feature.detection_shuffled:.2f})" in text
        if feature.effect is not None:
            assert f"{feature.effect:+.2f}" in text
            assert f"[{feature.interval[0]:+.2f}, {feature.interval[1]:+.2f}]" in text
    assert "25 of 240 tried explanations hold; 16 caused" in text
    assert len(re.findall(r"(?<!,) caused *$|^caused *$", text, re.M)) >= 16
    assert all(len(line) <= width for line in text.splitlines())


def test_the_footer_says_what_to_type_next_and_what_was_left_out():
    text = printed(REPORT, rows=5)
    assert "the first 5; the report holds the other 23" in text
    assert "actscope demo --text FILE" in text and "open runs/demo/report.html" in text
    assert "neurons 0.48" in text and "this dictionary 0.73" in text


def test_text_from_data_cannot_steer_the_terminal():
    text = printed(hostile_report(), force_terminal=True, color_system="truecolor")
    rest = re.sub(r"\x1b\[[0-9;]*m", "", text)  # rich's own colours
    assert "\x1b" not in rest and "\x00" not in rest and "\u202e" not in rest
    assert "\\x1b[31m" in rest.replace("\n", "").replace(" ", "")


def test_markup_in_data_is_text():
    """Rich would read [bold] as a style and drop it."""
    feature = replace(REPORT.features[0], meaning="fires on [bold]this[/bold]", targets=("[red]",))
    text = printed(replace(REPORT, features=(feature,)))
    assert "[bold]this[/bold]" in text and "[red]" in text


def test_no_color_is_respected(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", printed(REPORT, force_terminal=True))
    monkeypatch.delenv("NO_COLOR")
    assert re.search(r"\x1b\[[0-9;]*3[0-7]m", printed(REPORT, force_terminal=True, color_system="standard"))


def test_a_log_gets_plain_lines():
    console = Console(file=io.StringIO(), width=100)
    with terminal.Stages(console, ["read", "fit"], every=0.0) as stages:
        with stages.stage("read") as progress:
            progress(50, 200, "rows")
        with pytest.raises(ZeroDivisionError), stages.stage("fit"):
            raise ZeroDivisionError
    text = console.file.getvalue()
    assert "read: 25% rows" in text and "read: done in" in text and "fit: stopped after" in text and "\x1b" not in text
    assert [stage.name for stage in stages.seconds] == ["read"]


def test_lines_are_few_when_units_are_many():
    console = Console(file=io.StringIO(), width=100)
    with terminal.Stages(console, ["read"], every=60.0) as stages, stages.stage("read") as progress:
        for done in range(5000):
            progress(done, 5000, "rows")
    assert len(console.file.getvalue().splitlines()) == 2


def test_a_terminal_gets_bars():
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system="standard")
    with terminal.Stages(console, ["read [bold]", "fit"]) as stages, stages.stage("read [bold]") as progress:
        progress(50, 200, "rows \x1b[2J")
    text = console.file.getvalue()
    assert "█" in text and "✓" in text and "read [bold]" in text and "1 of 2 stages" in text and "\x1b[2J" not in text


def test_an_unknown_stage_is_refused():
    with (
        terminal.Stages(Console(file=io.StringIO()), ["read"]) as stages,
        pytest.raises(BadInput, match="one of: read"),
        stages.stage("raed"),
    ):
        raise AssertionError("the stage ran")
