"""The page of a diagnosis: it says what was measured, needs nothing else, and fits a narrow window."""

import re

import pytest

from actscope.core.score import Score
from actscope.reports._parts.curves import Axis, Line, Point, chart
from actscope.reports._parts.figures import FIGURES
from actscope.reports._parts.readings import reading
from actscope.reports.diagnosis import Checkpoint, Diagnosis, Measure, page, table

HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m"


def score(name: str, value: float, **more) -> Score:
    given = {"interval": (value - 0.1, value + 0.1), "control": 0.05, "parts": PARTS.get(name.partition(":")[0], {}), **more}
    return Score(name, "x@1", value, "a unit", "neither", 12, **given)


PARTS = {
    "massive_activations": {"top": 9.0, "median": 1.0, "massive": 0.0, "first": 0.5, "dim 3": 1.0, f"token {HOSTILE!r}": 1.0},
    "attention_sinks": {"first": 0.3, "four": 0.4, "elsewhere": 0.1, "head 0": 0.2, "head 1": 0.4},
    "activation_sparsity": {"effective": 0.3, "nonzero": 1.0},
    "void_skipping": {"clean": 1.0, "voids": 2.0, "random": 3.0, "elsewhere": 2.5, "elsewhere - voids low": 0.2,
                      "elsewhere - voids high": 0.8},
    "rankme": {"of_eigenvalues": 3.0}, "alpha": {"r2": 0.9}, "word_classes": {"classes": 4.0},
    "massive_dynamics": {"line": 0.8},
}  # fmt: skip


def scores() -> list[Score]:
    found = [score("void_skipping", 1.0)]
    for figure in FIGURES:
        found.append(score(figure.score, 0.4))
        where = {"lags": ["lag 0", "lag 1", "lag 16"], "levels": [f"level {n}" for n in range(6)]}
        for place in where.get(figure.over, ["layers.0.resid_post", "layers.1.resid_post"]):
            found.append(score(f"{figure.prefix}:{place}", 0.3 + 0.1 * len(place) % 0.5))
    return found


def diagnosis(checkpoints: int = 3, name: str = "small") -> Diagnosis:
    measures = [
        Measure("everything", "pairs: 3 forward passes", 3000, 3000, 1.5, scores()),
        Measure("word_classes", "one pass", 0, 0, 0.0, [], f"needs {HOSTILE}"),
    ]
    steps = [Checkpoint(10**n, scores()) for n in range(checkpoints)]
    return Diagnosis(
        "actscope score small --diagnose", "2026-01-01", name, "f" * 64, 1000, 2, 16, "texts", 12, 1000, measures, steps, 0, 3.0
    )


def test_every_figure_is_drawn_over_its_places_and_over_training():
    drawn = page(diagnosis())
    assert drawn.count('class="panel measure') == len(FIGURES) and drawn.count("<svg") == drawn.count('role="img"')
    layered = sum(figure.over == "layers" for figure in FIGURES)
    assert drawn.count("Over training") == layered and drawn.count("Over layers") == layered
    assert page(diagnosis(checkpoints=0)).count("Over training") == 0
    assert 'value="0.4"' in drawn and "Left out: needs" in drawn


def test_nothing_in_the_data_becomes_markup_and_nothing_is_fetched():
    drawn = page(diagnosis(name=HOSTILE))
    assert "<img" not in drawn and "\x1b" not in drawn and "<script" not in drawn
    assert (
        re.search(r"default-src 'none'; style-src 'unsafe-inline'", drawn)
        and "http://" not in drawn
        and "https://" not in drawn
    )


def test_the_terminal_says_the_same_figures(capsys):
    from rich.console import Console

    Console(width=100).print(table(diagnosis()))
    shown = capsys.readouterr().out
    assert "void_skipping" in shown and "[0.9, 1.1]" in shown and "3.0 k, 3.0 k" in shown and "Left out: word_classes" in shown


def test_a_chart_puts_values_where_its_ticks_say():
    drawn = chart(
        [Line("one", [Point(1.0, 10.0), Point(10.0, 100.0), Point(100.0, 1000.0)], "red")],
        Axis("step", log=True),
        Axis("y", log=True),
        "said",
    )
    places = [tuple(map(float, found)) for found in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', drawn)]
    assert places[1][0] - places[0][0] == pytest.approx(places[2][0] - places[1][0], abs=0.2)
    assert places[0][1] - places[1][1] == pytest.approx(places[1][1] - places[2][1], abs=0.2) and places[0][1] > places[2][1]
    ticks = dict(re.findall(r'x="([\d.]+)" y="241.0" class="t" text-anchor="middle">(\w+)<', drawn))
    assert {said: float(x) for x, said in ticks.items()}["10"] == pytest.approx(places[1][0], abs=0.1)


def test_what_is_said_of_voids_follows_the_interval_against_the_fairer_control():
    void = score("void_layers", 0.4)

    def said(low: float, high: float) -> str:
        cost = score(
            "void_skipping", 1.0, parts={**PARTS["void_skipping"], "elsewhere - voids low": low, "elsewhere - voids high": high}
        )
        return reading(void, [Measure("void_layers", "", 0, 0, 0.0, [void, cost])])

    assert said(0.1, 0.5).endswith("voids are better to skip than chance.") and "no better" in said(-0.1, 0.1)
    assert "worse to skip than chance" in said(-0.5, -0.1)


def test_a_narrow_window_shows_all_of_it(tmp_path):
    import shutil

    from playwright.sync_api import sync_playwright
    from test_report_browser import CONTRAST, FLAGS, TOO_WIDE

    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.fail("There is no chromium on this machine; `make system` (or `apt-get install chromium`) installs it.")
    (tmp_path / "page.html").write_text(page(diagnosis()))
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=FLAGS)
        for scheme in ("light", "dark"):
            shown = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme=scheme)
            asked: list[str] = []
            shown.on("request", lambda request, asked=asked: asked.append(request.url))
            shown.goto((tmp_path / "page.html").as_uri())
            assert shown.evaluate(TOO_WIDE) == [] and shown.evaluate(CONTRAST) == [] and len(asked) == 1
        browser.close()
