"""A report like a real one, drawn from a seed: the shapes and sizes of a demo run, with effects of both kinds."""

import math
import random
from dataclasses import replace

from actscope.reports import document as doc

TITLE = "What pocket's layer 3 writes"
KINDS = [
    ("fires on ' Monday', ' Tuesday' and ' Friday'", [" Monday", " Tuesday", " Friday"], "successor.day", " on"),
    ("fires on a token that occurred earlier in the text", [" Alice", " Bob", " Carol"], "ioi.name", " gave the ring to"),
    ("fires on tokens between '(' and ')'", ["(", "[", "{"], "brackets.open", " call"),
    ("fires on the token after ' def'", [" parse", " read", " write"], "docstring.name", "\n    def"),
    ("fires on ' not' and ' never'", [" not", " never", " don't"], "tone.negative", " You should"),
    ("fires on a digit after ' ='", ["7", "4", "1"], "addition.answer", " 3 + 4 ="),
    ("fires on the last token of a sentence", [".", "!", "?"], "none", " and that was all"),
    ("fires on ' red', ' blue' and ' green', a colour", [" red", " blue", " green"], "colored.answer", " the ball is"),
]
FILLER = [
    " the",
    " a",
    " of",
    " then",
    " went",
    " to",
    " and",
    " said",
    " value",
    " list",
    ":",
    ",",
    "\n",
    " it",
    " return",
    " None",
    "_id",
]


def example_report(features: int = 28, seed: int = 0) -> doc.Report:
    draw = random.Random(seed)
    found = tuple(_feature(draw, index) for index in range(features))
    return doc.Report(
        title=TITLE,
        created="2026-11-21T13:40:00Z",
        command="actscope demo --seed 0",
        subject=doc.SubjectLine("pocket", 3_842_560, 6, 192, "4f1c2ab07d9e55aa" * 4),
        site="layers.3.mlp_out",
        corpus=doc.CorpusLine("grammar + standard library", 4_812, 612_300),
        dictionary=doc.DictionaryLine("topk", 2048, 32, 1_228_800, {"lr": 0.001, "batch": 4096}),
        seconds=151.3,
        tried=doc.Tried(latents=2048, live=1611, candidates=240, reported=features),
        splits=doc.Splits(1604, 1602, 1606),
        features=found,
        stages=(doc.Stage("read activations", 31.2), doc.Stage("fit the dictionary", 58.9), doc.Stage("explain", 27.4),
                doc.Stage("intervene", 29.1), doc.Stage("write the report", 0.7)),
        scores=(
            doc.ScoreLine("fvu", 0.187, "share", (0.181, 0.193), 1.0, "Share of the variance that the dictionary misses."),
            doc.ScoreLine("l0", 31.6, "latents a token", None, None, "Latents active on one token, on average."),
            doc.ScoreLine("dead share", 0.213, "share", None, None, "Share of latents never active on held-out text."),
            doc.ScoreLine("cross-entropy recovered", 0.931, "share", (0.924, 0.938), 0.0,
                          "Loss caused by silencing the layer that comes back when the dictionary stands in for it."),
        ),
        baselines=(doc.Baseline("dictionary", 0.734, (0.712, 0.756)), doc.Baseline("neurons", 0.483, (0.462, 0.504)),
                   doc.Baseline("pca", 0.371, (0.349, 0.393)), doc.Baseline("random", 0.402, (0.386, 0.418))),
    )  # fmt: skip


def _feature(draw: random.Random, index: int) -> doc.Feature:
    meaning, tokens, cause, lead = KINDS[index % len(KINDS)]
    caused = index % 3 != 2
    ablate = _effect(draw, -draw.uniform(0.35, 1.9) if caused else draw.uniform(-0.05, 0.05), caused, None)
    steer = _effect(draw, draw.uniform(0.3, 2.4) if caused else draw.uniform(-0.05, 0.05), caused, 2.0)
    quoted, operation = (ablate, "ablate") if index % 2 == 0 else (steer, "steer")
    if index == 5:
        ablate = steer = quoted = operation = None
        caused = False
    peak = draw.uniform(3, 14)
    examples = doc.Examples(
        tuple(_shown(draw, tokens, lead, peak * (1 - 0.02 * n)) for n in range(8)),
        tuple(_shown(draw, tokens, lead, peak * (0.9 - 0.1 * n)) for n in range(8)),
        tuple(_shown(draw, tokens, lead, peak * draw.uniform(0.05, 0.7)) for _ in range(8)),
    )
    detection = draw.uniform(0.62, 0.78) if index % 9 == 7 else draw.uniform(0.81, 0.995)
    edges = tuple(peak * n / 24 for n in range(25))
    return doc.Feature(
        latent=draw.randrange(2048 // 32) + index * 64,
        meaning=meaning,
        detection=detection,
        detection_shuffled=draw.uniform(0.47, 0.53),
        effect=quoted.effect if quoted else None,
        effect_control=_stronger(quoted) if quoted else None,
        interval=quoted.interval if quoted else None,
        caused=caused,
        detection_interval=(detection - 0.03, min(1.0, detection + 0.02)),
        detection_parts={"true positive rate": detection - 0.02, "true negative rate": detection + 0.004},
        operation=operation,
        density=draw.uniform(0.0004, 0.03),
        contexts=draw.randrange(400, 900),
        rule={"$value": "TokenIn", "tokens": {"$tuple": tokens}, "back": 0},
        ablate=ablate,
        steer=steer,
        targets=tuple(tokens) if quoted else (),
        histogram=doc.Histogram(
            edges, tuple(int(900 * math.exp(-n / 6) + 60 * math.exp(-((n - 17) ** 2) / 8)) for n in range(24))
        ),
        promotes=tuple((token, draw.uniform(0.4, 2.5)) for token in [*tokens, " today", "'s", "\n\n"]),
        suppresses=tuple((token, -draw.uniform(0.2, 1.5)) for token in [" the", "self", ")", " import", "\t"]),
        examples=examples,
        truth=()
        if cause == "none"
        else (doc.Truth(cause, draw.uniform(0.7, 0.99)), doc.Truth("text.prose", draw.uniform(0.1, 0.3))),
    )


def _effect(draw: random.Random, size: float, caused: bool, dose: float | None) -> doc.Effect:
    random_control, latents = draw.uniform(-0.08, 0.08), draw.uniform(-0.12, 0.12)
    middle, half = size - latents, 0.35 * abs(size - latents) if caused else draw.uniform(0.15, 0.3)
    return doc.Effect(size, random_control, latents, (middle - half, middle + half), 0.002 if caused else 0.8, 64, dose)


def _stronger(effect: doc.Effect) -> float:
    controls = [effect.control_random] if effect.control_latents is None else [effect.control_random, effect.control_latents]
    return max(controls) if effect.effect > 0 else min(controls)


def _shown(draw: random.Random, tokens: list[str], lead: str, activation: float) -> doc.Shown:
    before = [(draw.choice(FILLER), 0.0) for _ in range(draw.randrange(6, 16))] + [(lead, 0.0)]
    before = [(piece, draw.uniform(0, activation * 0.6) if draw.random() < 0.12 else value) for piece, value in before]
    after = tuple((draw.choice(FILLER), 0.0) for _ in range(draw.randrange(3, 9)))
    number = draw.randrange(5000)
    return doc.Shown(f"grammar/{number:05d}", draw.randrange(4, 60), tuple(before), draw.choice(tokens), activation, after)


XSS = (
    "</script><img src=x onerror=\"window.canary='fired'\"><svg/onload=window.canary='fired'>'\"`{{7*7}}&lt;\x00\x1b[31m\u202e"
)


def hostile_report() -> doc.Report:
    """The same report with markup, quotes and control characters in every string that comes from data."""
    report = example_report(4, seed=1)
    shown = doc.Shown(XSS, 3, ((XSS, 1.0),), XSS, 2.0, ((XSS, 0.5),))
    features = tuple(
        replace(
            feature, meaning=XSS, targets=(XSS,),
            promotes=((XSS, 1.0),), suppresses=((XSS, -1.0),), truth=(doc.Truth(XSS, 0.5),),
            detection_parts={XSS: 0.5}, unit=XSS, rule={XSS: XSS}, examples=doc.Examples((shown,), (shown,), (shown,)),
        )
        for feature in report.features
    )  # fmt: skip
    return replace(
        report, title=XSS, created=XSS, command=XSS, site=XSS, features=features,
        subject=replace(report.subject, name=XSS, fingerprint=XSS), corpus=replace(report.corpus, name=XSS),
        dictionary=replace(report.dictionary, method=XSS, settings={XSS: XSS}),
        stages=(doc.Stage(XSS, 1.0),), scores=(doc.ScoreLine(XSS, 1.0, XSS, None, None, XSS),),
        baselines=(doc.Baseline(XSS, 0.5),),
    )  # fmt: skip
