"""The main job's report as data: what was done, what was found, and what it was compared with.

`Report` is what `actscope demo` writes to `report.json` and what the terminal and the page draw. Values are checked
when a Report is made from JSON and when it is written, so a drawn number is a measured number.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from actscope.core import files
from actscope.core.errors import BadInput, Corrupt
from actscope.reports._parts import typed

VERSION = 1
HOLDS = 0.8  # the least detection, on documents kept aside, at which an explanation is said to hold
Interval = tuple[float, float]  # 95%: (low, high)
Weighted = tuple[str, float]  # (text of a token, a number that belongs to it)


@dataclass(frozen=True)
class SubjectLine:
    """The model that was read."""

    name: str
    parameters: int
    layers: int
    width: int
    fingerprint: str


@dataclass(frozen=True)
class CorpusLine:
    """The text that was read. rows: tokens captured."""

    name: str
    documents: int
    rows: int


@dataclass(frozen=True)
class DictionaryLine:
    """The dictionary that was fitted. rows: rows seen in training, repeats counted; k: active latents a row, if fixed."""

    method: str
    latents: int
    k: int | None
    rows: int
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    name: str
    seconds: float


@dataclass(frozen=True)
class Tried:
    """How much was tried to get what is reported. candidates: explanations judged on the select split."""

    latents: int
    live: int
    candidates: int
    reported: int


@dataclass(frozen=True)
class ScoreLine:
    """A measure of the whole dictionary. definition: one sentence a reader understands; control: the same measure
    where there should be no effect."""

    name: str
    value: float
    unit: str = ""
    interval: Interval | None = None
    control: float | None = None
    definition: str = ""


@dataclass(frozen=True)
class Baseline:
    """Truth recovery (mean over causes of the best unit's F1 on held-out documents) of one way to pick units:
    "dictionary", "neurons", "pca" or "random". Absent where the truth is unknown."""

    name: str
    value: float
    interval: Interval | None = None


@dataclass(frozen=True)
class Splits:
    """Documents in each of the three disjoint splits."""

    propose: int
    select: int
    report: int


@dataclass(frozen=True)
class Effect:
    """What one operation on a latent does to its targets' probability, where the latent is active.

    effect: signed change of the log of the targets' summed probability, nats. control_random, control_latents: the mean
    of the same operation with random directions and with other latents active there, scaled to the same norm.
    interval: 95%, of (effect - control), corrected over all reported features. p: corrected. n: documents.
    dose: steering strength, in multiples of the mean activation.
    """

    effect: float
    control_random: float
    control_latents: float | None
    interval: Interval | None
    p: float | None
    n: int
    dose: float | None = None


@dataclass(frozen=True)
class Histogram:
    """Non-zero activations: counts[i] lie in edges[i]..edges[i + 1]."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Shown:
    """One context: tokens with the latent's activation on each; `piece` is the token the context was chosen for."""

    document: str
    position: int
    before: tuple[Weighted, ...]
    piece: str
    activation: float
    after: tuple[Weighted, ...]


@dataclass(frozen=True)
class Examples:
    """Contexts at the highest activations, at falling quantiles, and drawn at random among active tokens."""

    top: tuple[Shown, ...] = ()
    quantile: tuple[Shown, ...] = ()
    random: tuple[Shown, ...] = ()


@dataclass(frozen=True)
class Truth:
    """A cause known by construction, and how well this latent alone detects it."""

    cause: str
    f1: float


@dataclass(frozen=True)
class Feature:
    """One latent: what it is said to mean, how well that predicts where it fires, and what it does.

    detection: balanced accuracy on the report split; detection_shuffled: mean of the same with permuted context labels.
    effect, effect_control, interval, operation: those of the operation quoted, `ablate` or `steer`; None where no
    effect could be measured. caused: the interval excludes 0 on the expected side.
    contexts: how many contexts detection was judged on. density: share of tokens on which the latent is active.
    promotes, suppresses: tokens whose logit its direction raises and lowers most.
    """

    latent: int
    meaning: str
    detection: float
    detection_shuffled: float
    effect: float | None
    effect_control: float | None
    interval: Interval | None
    caused: bool
    detection_interval: Interval | None = None
    detection_parts: Mapping[str, float] = field(default_factory=dict)
    operation: Literal["ablate", "steer"] | None = None
    unit: str = "nats"
    density: float = 0.0
    contexts: int = 0
    rule: object = None
    ablate: Effect | None = None
    steer: Effect | None = None
    targets: tuple[str, ...] = ()
    histogram: Histogram | None = None
    promotes: tuple[Weighted, ...] = ()
    suppresses: tuple[Weighted, ...] = ()
    examples: Examples = Examples()
    truth: tuple[Truth, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether detection on the report split is at least HOLDS."""
        return self.detection >= HOLDS


@dataclass(frozen=True)
class Report:
    """Everything the main job found. command: what to type to make it again; seconds: wall time of the job."""

    title: str
    created: str
    command: str
    subject: SubjectLine
    site: str
    corpus: CorpusLine
    dictionary: DictionaryLine
    seconds: float
    tried: Tried
    splits: Splits
    features: tuple[Feature, ...]
    stages: tuple[Stage, ...] = ()
    scores: tuple[ScoreLine, ...] = ()
    baselines: tuple[Baseline, ...] = ()
    version: int = VERSION

    @property
    def holding(self) -> tuple[Feature, ...]:
        """The features whose meaning holds: detection on the report split is at least HOLDS."""
        return tuple(feature for feature in self.features if feature.holds)

    @property
    def caused(self) -> tuple[Feature, ...]:
        """The features whose meaning holds and whose effect was shown."""
        return tuple(feature for feature in self.holding if feature.caused)

    def to_json(self) -> dict:
        """Plain JSON values, one key a field."""
        return typed.to_json(self)  # type: ignore[return-value]

    @staticmethod
    def from_json(value: object, name: str = "report") -> "Report":
        """A checked Report. Raises BadInput naming the place, what stands there and what was expected; Corrupt for a
        report of a newer version."""
        version = value.get("version", VERSION) if isinstance(value, Mapping) else VERSION
        if isinstance(version, int) and version > VERSION:
            raise Corrupt(f"{name} has version {version}; this actscope reads up to {VERSION}. Install a newer actscope.")
        report: Report = typed.from_json(Report, value, name)  # type: ignore[assignment]
        check(report, name)
        return report


def read(path: Path | str) -> Report:
    """The report in a JSON file. Raises BadInput (no file, or a field that cannot be), Corrupt (not JSON, newer version)."""
    return Report.from_json(files.read_json(path), Path(path).name)


def write(report: Report, path: Path | str) -> str:
    """Publish the report as JSON and return the file's SHA-256. Raises BadInput for a report that contradicts itself."""
    value = report.to_json()
    Report.from_json(value)
    return files.write_json(path, value)


def check(report: Report, name: str = "report") -> None:
    """Raise BadInput where the report contradicts itself: what is quoted must be what was measured."""
    if report.tried.reported != len(report.features):
        raise BadInput(
            f"{name}.tried.reported is {report.tried.reported}; expected {len(report.features)}, the features it holds."
        )
    latents = [feature.latent for feature in report.features]
    if len(set(latents)) != len(latents):
        twice = next(latent for latent in latents if latents.count(latent) > 1)
        raise BadInput(f"{name}.features holds latent {twice} twice; expected each latent once.")
    for index, line in enumerate((*report.scores, *report.baselines)):
        _ordered(line.interval, f"{name}.{'scores' if index < len(report.scores) else 'baselines'} {line.name!r}")
    for index, feature in enumerate(report.features):
        _check_feature(feature, f"{name}.features[{index}]")


def _check_feature(feature: Feature, path: str) -> None:
    for field_name in ("detection", "detection_shuffled", "density"):
        if not 0 <= (value := getattr(feature, field_name)) <= 1:
            raise BadInput(f"{path}.{field_name} is {value}; expected a share between 0 and 1.")
    _ordered(feature.interval, f"{path}.interval")
    _ordered(feature.detection_interval, f"{path}.detection_interval")
    if feature.caused and (feature.interval is None or feature.interval[0] <= 0 <= feature.interval[1]):
        raise BadInput(f"{path} is marked caused with the interval {feature.interval}; expected an interval that excludes 0.")
    quoted = {"ablate": feature.ablate, "steer": feature.steer, None: None}[feature.operation]
    if quoted is not None and (quoted.effect, quoted.interval) != (feature.effect, feature.interval):
        raise BadInput(
            f"{path} quotes effect {feature.effect} {feature.interval} of {feature.operation}, which measured "
            f"{quoted.effect} {quoted.interval}; expected the same numbers."
        )
    for operation, effect in (("ablate", feature.ablate), ("steer", feature.steer)):
        if effect is not None:
            _ordered(effect.interval, f"{path}.{operation}.interval")
    drawn = feature.histogram
    if drawn is not None and (len(drawn.edges) != len(drawn.counts) + 1 or list(drawn.edges) != sorted(drawn.edges)):
        raise BadInput(
            f"{path}.histogram has {len(drawn.edges)} edges for {len(drawn.counts)} counts; expected one more, ascending."
        )


def _ordered(interval: Interval | None, path: str) -> None:
    if interval is not None and interval[0] > interval[1]:
        raise BadInput(f"{path} is {list(interval)}; expected the low end first.")
