"""The page as text: every number is the report's, everything from data is escaped, nothing is asked of the network."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from report_fixture import XSS, example_report, hostile_report

from actscope.core.errors import BadInput
from actscope.reports._parts.svg import forest
from actscope.reports.html import html

REPORT = example_report()
PAGE = html(REPORT)


class Numbers(HTMLParser):
    """(latent of the card it stands in, field, exact value, text shown) of every number on the page."""

    def __init__(self):
        super().__init__()
        self.found: list[tuple[int | None, str, str, str]] = []
        self.latent: int | None = None
        self.open: tuple[str, str, str] | None = None

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "article":
            self.latent = int(given["data-latent"])
        if "data-field" in given:
            self.open = (tag, given["data-field"], given.get("data-value") or given["value"])

    def handle_data(self, data):
        if self.open:
            self.found.append((self.latent, self.open[1], self.open[2], data))

    def handle_endtag(self, tag):
        if self.open and tag == self.open[0]:
            self.open = None
        if tag == "article":
            self.latent = None


def numbers(page: str) -> list[tuple[int | None, str, str, str]]:
    parser = Numbers()
    parser.feed(page)
    return parser.found


def measured(value: object, field: str) -> object:
    """The number at a dotted path of JSON; keys may hold dots and spaces."""
    if field == "":
        return value
    if isinstance(value, list):
        head, _, rest = field.partition(".")
        return measured(value[int(head)], rest)
    key = next(key for key in value if field == key or field.startswith(key + "."))
    return measured(value[key], field[len(key) + 1 :])


def reads_as(text: str, value: float) -> bool:
    """Whether the text is that number, rounded to the digits it shows."""
    if text.startswith("<"):
        return value < float(text[1:])
    plain = text.replace("\N{MINUS SIGN}", "-").replace(",", "").removesuffix("%").removesuffix(" s").lstrip("+")
    if timed := re.fullmatch(r"(\d+) min (\d+)", plain):
        return abs(60 * int(timed[1]) + int(timed[2]) - value) <= 0.5
    scale = 100 if text.endswith("%") else 1
    digits = len(plain.partition(".")[2])
    return abs(float(plain) - value * scale) <= 0.5000001 * 10**-digits


def test_every_number_shown_is_the_reports():
    value = REPORT.to_json()
    by_latent = {feature["latent"]: feature for feature in value["features"]}
    found = numbers(PAGE)
    assert len(found) > 28 * 20
    for latent, field, exact, text in found:
        true = measured(value if latent is None else by_latent[latent], field)
        assert float(exact) == true, (latent, field)
        assert reads_as(text, true), (latent, field, text, true)


def test_every_feature_shows_what_it_claims():
    shown: dict[int, set[str]] = {}
    for latent, field, _, _ in numbers(PAGE):
        if latent is not None:
            shown.setdefault(latent, set()).add(field)
    assert set(shown) == {feature.latent for feature in REPORT.features}
    for feature in REPORT.features:
        wanted = {"detection", "detection_shuffled", "density", "contexts"}
        if feature.effect is not None:
            wanted |= {"effect", "effect_control", "interval.0", "interval.1"}
            wanted |= {
                f"{name}.{field}" for name in ("ablate", "steer") for field in ("effect", "control_random", "control_latents")
            }
        assert wanted <= shown[feature.latent]


def test_the_page_says_how_much_was_tried_and_what_the_numbers_mean():
    assert "<b>25 hold</b>" in PAGE and f"<b>{len(REPORT.caused)} of them</b>" in PAGE
    for word in ("Detection", "Effect", "Controls", "Difference", "Splits", "Number tried", "Truth"):
        assert f"<dt>{word}</dt>" in PAGE


def test_a_number_that_is_not_the_reports_is_noticed():
    """The control of the test above: the same check sees a changed report."""
    value = replace(REPORT, seconds=REPORT.seconds + 40).to_json()
    assert any(not reads_as(text, measured(value, field)) for latent, field, _, text in numbers(PAGE) if latent is None)


def test_text_from_data_is_escaped():
    page = html(hostile_report())
    assert "<img" not in page and "<svg/" not in page and "\x1b" not in page and "\x00" not in page and "\u202e" not in page
    assert page.count("</script>") == 1
    assert "&lt;/script&gt;" in page and "\\x1b[31m\\u202e" in page


def test_the_policy_allows_this_script_and_no_other():
    script = re.search(r"<script>(.*?)</script>", PAGE, re.S)
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', PAGE)[1]
    assert "default-src 'none'" in policy and f"script-src 'sha256-{digest}';" in policy
    assert not re.search(r"(?:src|href|url)\s*[=(]\s*[\"']?(?:https?:)?//", PAGE)


def test_line_ends_and_whitespace_tokens_are_shown_without_tokenizer_glyphs():
    assert "Ġ" not in PAGE and "Ċ" not in PAGE
    assert '<i class="ws">↵</i>' in PAGE and '<i class="ws">⇥</i>' in PAGE


def test_a_report_with_nothing_found_and_nothing_known_is_drawn():
    bare = replace(REPORT, features=(), baselines=(), scores=(), stages=(), tried=replace(REPORT.tried, reported=0))
    page = html(bare)
    assert "Truth recovered" not in page and "0 hold" in page
    plain = replace(REPORT.features[0], truth=(), histogram=None, ablate=None, steer=None, operation=None, effect=None)
    plain = replace(plain, effect_control=None, interval=None, caused=False, targets=(), promotes=(), suppresses=())
    one = replace(bare, features=(plain,), tried=replace(REPORT.tried, reported=1))
    assert "No effect was measured" in html(one)


def test_a_report_that_contradicts_itself_is_not_drawn():
    wrong = replace(REPORT.features[0], interval=(-1.0, 1.0), caused=True)
    with pytest.raises(BadInput, match="excludes 0"):
        html(replace(REPORT, features=(wrong,), tried=replace(REPORT.tried, reported=1)))


def test_the_hostile_text_is_hostile():
    assert "onerror" in XSS and "</script>" in XSS and "\x1b" in XSS


def test_one_wide_interval_does_not_hide_the_others():
    features = list(REPORT.features)
    number = next(index for index, one in enumerate(features) if not one.caused and one.interval is not None)
    ends = [abs(end) for one in features if one.caused and one.interval for end in one.interval]
    features[number] = replace(features[number], interval=(-100 * max(ends), 100 * max(ends)))
    calm, wild = forest(REPORT.features), forest(features)

    def ticks(drawn: object) -> list[float]:
        shown = re.findall(r'class="t"[^>]*>([+−\d.]+)<', str(drawn))
        return [abs(float(tick.replace("−", "-"))) for tick in shown]

    assert ticks(calm) and max(ticks(wild)) < 5 * max(ends)
    assert str(wild).count('fill="none"') == 2 and 'fill="none"' not in str(calm)
