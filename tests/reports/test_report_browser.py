"""The page in a real browser: it asks nothing of the network, runs nothing but its own script, and works for everyone."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright
from report_fixture import example_report, hostile_report

from actscope.core import files
from actscope.reports import document
from actscope.reports.html import html

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip
REPORT = example_report(16)

CONTRAST = """() => {
  const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return [n[0], n[1], n[2], n[3] ?? 1]; };
  const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] + under[i] * (1 - top[3]));
  const light = (rgb) => {
    const [r, g, b] = rgb.map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255]);
  };
  const bad = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || node.closest("script, .sr, .skip")) continue;
    if (!node.checkVisibility({visibilityProperty: true})) continue;
    const style = getComputedStyle(node);
    const behind = ground(node);
    const ink = over(parse(node.namespaceURI.endsWith("svg") ? style.fill : style.color), behind);
    const [a, b] = [light(ink), light(behind)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const kind = node.className.baseVal ?? node.className;
    if (ratio < 4.5) bad.push(`${ratio.toFixed(2)} ${kind}: ${walk.currentNode.data.slice(0, 30)}`);
  }
  return bad;
}"""
TOO_WIDE = """() => Array.from(document.querySelectorAll("body *")).filter((node) =>
    node.getBoundingClientRect().right > innerWidth + 1 && node.checkVisibility({visibilityProperty: true})
    && !node.closest(".scroll, .before, .after, .sr, .skip")).map((node) => node.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def chromium():
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.fail("There is no chromium on this machine; `make system` (or `apt-get install chromium`) installs it.")
    with sync_playwright() as play:
        window = play.chromium.launch(executable_path=path, args=FLAGS)
        yield window
        window.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, str]:
    folder: Path = tmp_path_factory.mktemp("pages")
    small = example_report(4)
    for name, report in (("report", REPORT), ("small", small), ("hostile", hostile_report())):
        files.write_text(folder / f"{name}.html", html(report))
    return {path.stem: path.as_uri() for path in folder.iterdir()}


@pytest.fixture
def opened(chromium):
    """Open an address; what the page asked for and complained of stands in its `.asked` and `.said`."""
    contexts = []

    def open_page(address: str, **settings):
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.asked, page.said = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()


def latents(page) -> list[int]:
    return [int(n) for n in page.locator(".card:visible").evaluate_all("cards => cards.map(card => card.dataset.latent)")]


def test_the_page_asks_nothing_of_the_network_and_complains_of_nothing(opened, pages):
    page = opened(pages["report"])
    page.locator(".tile").first.focus()
    page.wait_for_load_state("networkidle")
    assert [url for url in page.asked if not url.startswith("data:")] == [pages["report"]]
    assert page.said == []
    assert len(latents(page)) == len(REPORT.features)


def test_markup_in_tokens_and_names_stays_text(opened, pages):
    page = opened(pages["hostile"])
    page.wait_for_load_state("networkidle")
    page.evaluate("document.querySelectorAll('details').forEach((node) => { node.open = true; })")
    page.wait_for_timeout(100)
    assert page.evaluate("typeof window.canary") == "undefined"
    assert page.locator("img, iframe, object, svg svg").count() == 0 and page.locator("script").count() == 1
    assert page.said == []
    assert "<img src=x onerror=" in page.locator("h1").inner_text()


def test_the_policy_stops_a_script_that_got_in(opened, pages):
    """The control of the test above: without escaping, the page's policy alone keeps the canary away."""
    page = opened(pages["small"])
    page.evaluate("""() => {
        const image = document.createElement("div");
        image.innerHTML = `<img src=x onerror="window.canary = 1">`;
        document.body.append(image);
        const script = document.createElement("script");
        script.textContent = "window.canary = 2";
        document.body.append(script);
    }""")
    page.wait_for_timeout(150)
    assert page.evaluate("typeof window.canary") == "undefined"
    assert any("Content Security Policy" in said for said in page.said)


def test_features_are_searched_filtered_and_sorted(opened, pages):
    page = opened(pages["report"])
    page.locator("#show").select_option("caused")
    assert sorted(latents(page)) == sorted(feature.latent for feature in REPORT.caused)
    page.locator("#show").select_option("weak")
    assert sorted(latents(page)) == sorted(feature.latent for feature in REPORT.features if feature.detection < 0.8)
    page.locator("#show").select_option("all")
    page.locator("#sort").select_option("detection")
    assert latents(page) == [f.latent for f in sorted(REPORT.features, key=lambda f: -f.detection)]
    page.keyboard.press("Escape")
    page.locator("body").click(position={"x": 2, "y": 2})
    page.keyboard.press("/")
    page.keyboard.type("colour")
    assert sorted(latents(page)) == sorted(f.latent for f in REPORT.features if "colour" in f.meaning)
    assert "of 16 features" in page.locator("#shown").inner_text()
    page.keyboard.type(" nothing at all")
    assert latents(page) == [] and page.locator("#nothing").is_visible()
    page.locator("#reset").click()
    assert len(latents(page)) == 16


def test_a_view_is_kept_in_the_address_and_a_chart_leads_to_its_card(opened, pages):
    page = opened(pages["report"] + "#?show=caused&sort=latent&q=monday")
    wanted = sorted(f.latent for f in REPORT.caused if "Monday" in f.meaning)
    assert latents(page) == wanted
    hidden = next(f.latent for f in REPORT.features if not f.caused and f.interval)
    page.evaluate(f"location.hash = 'latent-{hidden}'")
    page.wait_for_function(f"!document.getElementById('latent-{hidden}').hidden")
    assert page.locator(f".forest a[href='#latent-{hidden}']").count() == 1


def test_keys_walk_the_cards_and_tabs(opened, pages):
    page = opened(pages["small"])
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert int(page.evaluate("document.activeElement.dataset.latent")) == latents(page)[1]
    page.keyboard.press("k")
    assert int(page.evaluate("document.activeElement.dataset.latent")) == latents(page)[0]
    first = page.locator(".card").first
    first.locator("input[type=radio]").first.focus()
    page.keyboard.press("ArrowRight")
    assert [first.locator(".pane").nth(index).is_visible() for index in range(3)] == [False, True, False]


def test_the_page_reads_the_same_without_javascript(opened, pages):
    page = opened(pages["small"], java_script_enabled=False)
    assert page.locator(".card").count() == 4 and page.locator(".card h3").first.is_visible()
    assert not page.locator("#controls").is_visible()
    card = page.locator(".card").first
    card.locator("label", has_text="Random").click()
    assert card.locator(".pane").nth(2).is_visible() and not card.locator(".pane").nth(0).is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_schemes(opened, pages, scheme):
    page = opened(pages["small"], color_scheme=scheme)
    assert page.evaluate(CONTRAST) == []
    page.evaluate("document.querySelector('h1').style.color = '#777777'")  # the control: a heading too faint in both
    assert len(page.evaluate(CONTRAST)) == 1


@pytest.mark.parametrize("width", [320, 390, 800, 1280])
def test_nothing_stands_beyond_the_edge(opened, pages, width):
    for name in ("small", "hostile"):
        page = opened(pages[name], viewport={"width": width, "height": 844})
        assert page.evaluate(TOO_WIDE) == [], name


def test_the_chosen_token_is_seen_in_every_context(opened, pages):
    page = opened(pages["small"], viewport={"width": 390, "height": 844})
    outside = page.evaluate("""() => Array.from(document.querySelectorAll(".pane mark.peak")).filter((mark) => {
        const box = mark.getBoundingClientRect(), row = mark.closest(".after").getBoundingClientRect();
        return box.width > 0 && (box.left < row.left - 1 || box.left + 8 > row.right);
    }).length""")
    assert outside == 0
    row = page.locator(".context").first
    row.locator("summary").click()
    assert "Document" in row.inner_text()


@pytest.mark.full
def test_the_pictures_of_the_readme_can_be_taken(tmp_path):
    folder = Path(__file__).parents[2]
    document.write(example_report(3), tmp_path / "report.json")
    files.write_text(tmp_path / "report.html", html(example_report(3)))
    for source in ("report.json", "report.html"):
        arguments = [str(tmp_path / source), str(tmp_path / f"{source}.png"), "--scale", "1", "--height", "600"]
        subprocess.run([sys.executable, str(folder / "docs" / "screenshot.py"), *arguments], check=True, timeout=120)
        picture = (tmp_path / f"{source}.png").read_bytes()
        assert picture.startswith(b"\x89PNG") and len(picture) > 20_000
