"""Pictures for the README, taken with the system's chromium.

    python docs/screenshot.py runs/demo/report.html docs/images/report.png      # the page, as it opens
    python docs/screenshot.py runs/demo/report.json docs/images/terminal.png    # the table that the terminal shows

--width, --height: of the window in CSS pixels (height 0: the whole page); --dark; --scale: pixels per CSS pixel;
--at SELECTOR: scroll there first; --rows: features in the terminal's table.
"""

import argparse
import html
import io
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Playwright, sync_playwright
from rich.console import Console
from rich.terminal_theme import TerminalTheme

from actscope.core import files
from actscope.reports import document, terminal

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--force-color-profile=srgb",
]  # fmt: skip
NEXT = [
    ("open runs/demo/report.html", "every feature with its contexts, effects and controls"),
    ("actscope demo --text FILE", "the same on a text of your own"),
]
_COLOURS = "3c3f44 eb6e64 7ecd94 e9be69 6eaaeb c896e1 68bedc e1dfd9 80848a f5826e 96e1aa f5cd7d 87bef5 d7aaf0 82d2eb ffffff"
_TRIPLES = [(int(code[:2], 16), int(code[2:4], 16), int(code[4:], 16)) for code in _COLOURS.split()]
THEME = TerminalTheme((24, 26, 29), (225, 223, 217), _TRIPLES[:8], _TRIPLES[8:])


def chromium() -> str:
    """The system's chromium. Exits with what to type where there is none."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        sys.exit("There is no chromium on this machine; `make system` (or `apt-get install chromium`) installs it.")
    return found


def browser(play: Playwright) -> Browser:
    return play.chromium.launch(executable_path=chromium(), args=FLAGS)


def shoot(page_html: str, *, width: int, height: int, dark: bool = False, scale: float = 2, at: str = "") -> bytes:
    """A PNG of a page; height 0: all of it."""
    with sync_playwright() as play, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        files.write_text(path, page_html)
        window = browser(play)
        page = window.new_page(
            viewport={"width": width, "height": height or 900},
            color_scheme="dark" if dark else "light",
            device_scale_factor=scale,
        )
        page.goto(path.as_uri())
        if at:
            page.locator(at).first.evaluate("node => node.scrollIntoView({block: 'start', behavior: 'instant'})")
        picture = page.screenshot(full_page=not height)
        window.close()
    return picture


def terminal_page(report: document.Report, width: int, rows: int | None) -> str:
    """The terminal's output as a page: rich's own colours in a pre, no font from anywhere else."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, highlight=False)
    console.print(terminal.result(report, rows=rows, then=NEXT))
    body = console.export_html(theme=THEME, inline_styles=True, code_format="{code}")
    back, front = THEME.background_color.hex, THEME.foreground_color.hex
    title = html.escape("$ actscope demo")
    style = (
        f"body{{margin:0;padding:26px 30px;background:{back};color:{front};width:max-content}}"
        "pre{margin:0;font:14px/1.45 'DejaVu Sans Mono',ui-monospace,Menlo,Consolas,monospace}"
    )
    return f"<!doctype html><meta charset=utf-8><style>{style}</style><pre><b>{title}</b>\n{body}</pre>"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=1500)
    parser.add_argument("--scale", type=float, default=1.5)
    parser.add_argument("--at", default="")
    parser.add_argument("--rows", type=int, default=12)
    parser.add_argument("--columns", type=int, default=112)
    parser.add_argument("--dark", action="store_true")
    given = parser.parse_args()
    if given.source.suffix == ".json":
        page = terminal_page(document.read(given.source), given.columns, given.rows)
        picture = shoot(page, width=60 + round(given.columns * 8.45), height=0, scale=given.scale)
    else:
        page = given.source.read_text(encoding="utf-8")
        picture = shoot(page, width=given.width, height=given.height, dark=given.dark, scale=given.scale, at=given.at)
    files.write_bytes(given.picture, picture)


if __name__ == "__main__":
    main()
