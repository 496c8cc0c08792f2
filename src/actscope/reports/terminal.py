"""The report on a terminal: a header, a table of features, a footer, and a live display while the job runs.

Every renderable is rich's, so NO_COLOR, narrow terminals and pipes are respected by the console that prints it. Text
that comes from data is escaped: no token can move the cursor, recolour the screen or be read as markup.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from actscope.core.errors import BadInput
from actscope.core.progress import Progress
from actscope.reports._parts import words
from actscope.reports.document import HOLDS, Feature, Report, Stage

_BAR = 26
_FIRES = "fires on "
_NARROW = 72  # columns
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def result(report: Report, *, rows: int | None = None, then: Sequence[tuple[str, str]] = ()) -> RenderableType:
    """Header, table and footer. rows: how many features to list (None: all); then: (command, what it does) to type next."""
    return Group(Text(), header(report), Text(), table(report, rows=rows), Text(), footer(report, rows=rows, then=then))


def header(report: Report) -> RenderableType:
    """What was read, where, and what was fitted to it."""
    subject, corpus, fitted = report.subject, report.corpus, report.dictionary
    active = f", {fitted.k} active a token" if fitted.k is not None else ""
    return Group(
        Text.assemble((words.plain(report.title), "bold")),
        Text(
            f"{words.plain(subject.name)}, {words.short(subject.parameters)} parameters, read at {words.plain(report.site)}: "
            f"{words.count(corpus.rows)} tokens of {words.plain(corpus.name)}.",
            "dim",
        ),
        Text(f"Dictionary {words.plain(fitted.method)}: {words.count(fitted.latents)} latents{active}.", "dim"),
    )


def table(report: Report, *, rows: int | None = None) -> RenderableType:
    """The features, the surest causes first: meaning and targets, detection (shuffled), effect (control) and the corrected
    95% interval of their difference. Below 72 columns each feature takes three lines instead of a row."""
    return _Features(words.surest_first(report)[:rows])


class _Features:
    def __init__(self, features: Sequence[Feature]):
        self._features = features
        said = all(feature.meaning.startswith(_FIRES) for feature in features)
        self._head, self._skip = ("Fires on", len(_FIRES)) if said else ("Meaning", 0)  # say it once where all say it

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        if options.max_width < _NARROW:
            for feature in self._features:
                yield _stacked(feature)
            return
        drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), header_style="bold", expand=True, show_edge=False)
        drawn.add_column("Feature", justify="right", no_wrap=True, style="cyan")
        drawn.add_column(f"{self._head}\nand the tokens it moves", ratio=1)
        drawn.add_column("Detection\n(shuffled)", justify="right", no_wrap=True)
        drawn.add_column("Effect (control), nats\n95% of the difference", justify="right", no_wrap=True)
        drawn.add_column("", no_wrap=True)
        for feature in self._features:
            effect = Text("\n").join([_effect(feature), _interval(feature)])
            drawn.add_row(str(feature.latent), _meaning(feature, self._skip), _detection(feature, "\n"), effect, _mark(feature))
        yield drawn


def _stacked(feature: Feature) -> Text:
    parts = [_detection(feature, " "), _effect(feature), _interval(feature), _mark(feature)]
    numbers = Text("  ").join(part for part in parts if part)
    return Text.assemble((f"{feature.latent}  ", "cyan"), _meaning(feature), "\n", numbers, "\n")


def _meaning(feature: Feature, skip: int = 0) -> Text:
    targets = f"\n→ {words.tokens(feature.targets)}" if feature.targets else ""
    return Text.assemble(words.plain(feature.meaning[skip:]), (targets, "dim"))


def _detection(feature: Feature, gap: str) -> Text:
    return Text.assemble(words.share(feature.detection), gap, (f"({words.share(feature.detection_shuffled)})", "dim"))


def _effect(feature: Feature) -> Text:
    if feature.effect is None:
        return Text("not measured", "dim")
    control = "" if feature.effect_control is None else f" ({words.signed(feature.effect_control)})"
    size = (words.signed(feature.effect), "bold" if feature.caused else "")
    return Text.assemble((f"{feature.operation or ''} ", "dim"), size, (control, "dim"))


def _interval(feature: Feature) -> Text:
    return Text("" if feature.interval is None else words.between(feature.interval), "" if feature.caused else "dim")


def _mark(feature: Feature) -> Text:
    styles = {"caused": "bold green", "detected": "", "weak": "dim"}
    return Text(words.verdict(feature).replace(", ", "\n"), styles[words.status(feature)])


def footer(report: Report, *, rows: int | None = None, then: Sequence[tuple[str, str]] = ()) -> RenderableType:
    """How much was tried and held, the baselines, the time, and what to type next."""
    lines: list[RenderableType] = [
        Text.assemble((words.counts(report), "bold"), (f", in {words.seconds(report.seconds)}.", ""))
    ]
    if rows is not None and rows < len(report.features):
        lines.append(Text(f"Listed: the first {rows}; the report holds the other {len(report.features) - rows}.", "dim"))
    lines += [_baselines(report)] if report.baselines else []
    lines.append(
        Text(
            f"Detection: balanced accuracy on documents kept aside (it holds from {HOLDS:g} on); shuffled: labels permuted.\n"
            "Effect: change of the targets' log-probability where the feature is active, when it is taken out (ablate) or "
            "turned up (steer); control: the same with other directions of the same size.",
            "dim",
        )
    )
    if then:
        steps = Table.grid(padding=(0, 2))
        for command, why in then:
            steps.add_row(Text("  " + words.plain(command), "bold cyan"), Text(words.plain(why), "dim"))
        lines += [Text(), Text("Next", "bold"), steps]
    return Group(*lines)


def _baselines(report: Report) -> Text:
    line = Text("Truth recovered (mean best F1): ")
    for index, baseline in enumerate(report.baselines):
        line.append(", " if index else "")
        line.append(f"{words.plain(words.baseline(baseline.name))} ")
        line.append(words.share(baseline.value), "bold" if words.is_ours(baseline.name) else "")
        if baseline.interval is not None:
            line.append(f" {words.between(baseline.interval, words.share)}", "dim")
    return line.append(".")


class Stages:
    """A job's stages as they run: bars on a terminal, plain lines elsewhere.

        with Stages(console, ["read activations", "fit"]) as stages:
            with stages.stage("read activations") as progress:
                capture(..., progress=progress)
        stages.seconds  # tuple[Stage, ...] for the report

    names: every stage, in order. every: seconds between plain lines. Raises BadInput for a stage that was not named.
    """

    def __init__(self, console: Console, names: Sequence[str], *, every: float = 5.0):
        self._console, self._every = console, every
        self._lines = {name: _Line(name) for name in names}
        self._live: Live | None = None
        self._started = time.monotonic()

    def __enter__(self) -> "Stages":
        self._started = time.monotonic()
        if self._console.is_terminal:
            live = Live(self, console=self._console, refresh_per_second=8, transient=False)
            live.start()
            self._live = live
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    @property
    def seconds(self) -> tuple[Stage, ...]:
        """The stages that ended well, with their wall time."""
        return tuple(Stage(line.name, line.elapsed) for line in self._lines.values() if line.state == "done")

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        """Run one stage; gives the `progress` function to hand to a verb."""
        if name not in self._lines:
            raise BadInput(f"{name!r} is not a stage of this job; expected one of: {', '.join(self._lines)}.")
        line = self._lines[name]
        line.begin()
        self._say(f"{name} ...")
        said = time.monotonic()

        def progress(done: int, total: int, note: str) -> None:
            nonlocal said
            line.done, line.total, line.note = done, total, note
            if time.monotonic() - said >= self._every:
                said = time.monotonic()
                self._say(f"{name}: {line.percent()}{line.tail()}")

        try:
            yield progress
        except BaseException:
            line.end("failed")
            self._say(f"{name}: stopped after {words.seconds(line.elapsed)}")
            raise
        line.end("done")
        self._say(f"{name}: done in {words.seconds(line.elapsed)}")

    def _say(self, text: str) -> None:
        if self._live is None:
            self._console.print(Text(words.plain(text)), soft_wrap=True)

    def __rich__(self) -> RenderableType:
        wide = self._console.width >= _NARROW
        drawn = Table.grid(padding=(0, 1), expand=True)
        drawn.add_column(width=1)
        drawn.add_column(no_wrap=True, overflow="ellipsis")
        if wide:
            drawn.add_column(width=_BAR, no_wrap=True)
        drawn.add_column(width=4, justify="right")
        drawn.add_column(min_width=6, justify="right", no_wrap=True)
        drawn.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        for line in self._lines.values():
            drawn.add_row(*line.cells(wide))
        total = words.seconds(time.monotonic() - self._started)
        done = sum(line.state == "done" for line in self._lines.values())
        return Group(drawn, Text(f"  {done} of {len(self._lines)} stages, {total}", "dim"))


class _Line:
    """One stage of the display."""

    def __init__(self, name: str):
        self.name, self.state, self.note = name, "waiting", ""
        self.done, self.total = 0, 0
        self._from, self._to = 0.0, 0.0
        self._spinner = Spinner("dots", style="cyan")

    def begin(self) -> None:
        self.state, self._from = "running", time.monotonic()

    def end(self, state: str) -> None:
        self.state, self._to = state, time.monotonic()

    @property
    def elapsed(self) -> float:
        return 0.0 if self.state == "waiting" else (self._to or time.monotonic()) - self._from

    @property
    def left(self) -> float | None:
        """Seconds left at the pace so far."""
        if self.state != "running" or not 0 < self.done < self.total:
            return None
        return self.elapsed * (self.total - self.done) / self.done

    def share(self) -> float:
        return 1.0 if self.state == "done" else min(1.0, self.done / self.total) if self.total else 0.0

    def percent(self) -> str:
        return f"{100 * self.share():.0f}%"

    def tail(self) -> str:
        left = "" if self.left is None else f", {words.seconds(self.left)} left"
        return (f" {self.note}" if self.note else "") + left

    def cells(self, wide: bool) -> list[RenderableType]:
        marks: dict[str, RenderableType] = {
            "waiting": Text(" ", "dim"), "running": self._spinner, "done": Text("✓", "green"), "failed": Text("✗", "bold red"),
        }  # fmt: skip
        quiet = "dim" if self.state == "waiting" else ""
        time_text = "" if self.state == "waiting" else words.seconds(self.elapsed)
        cells: list[RenderableType] = [marks[self.state], Text(words.plain(self.name), quiet, no_wrap=True)]
        cells += [_bar(self.share(), self.state)] if wide else []
        cells += [
            Text(self.percent() if self.state == "running" else "", justify="right"),
            Text(time_text, "dim", justify="right"),
        ]
        note = words.plain(self.tail().strip(" ,")) if self.state == "running" else ""
        return [*cells, Text(note, "dim", no_wrap=True, overflow="ellipsis")]


def _bar(share: float, state: str) -> Text:
    eighths = round(share * _BAR * 8)
    full, rest = divmod(eighths, 8)
    filled = "█" * full + (_EIGHTHS[rest] if rest else "")
    colour = {"done": "green", "failed": "red"}.get(state, "cyan")
    return Text.assemble((filled, colour), ("─" * (_BAR - len(filled)), "bright_black"))
