"""actscope score"""

from pathlib import Path

__all__ = ["score"]


def score(
    judged: str,
    on: Path | None = None,
    *,
    model: str | None = None,
    measure: list[str] | None = None,
    labels: str | None = None,
    other: list[Path] | None = None,
    judge: str = "rule",
    diagnose: bool = False,
    tokens: int = 10_000,
    dictionary: Path | None = None,
    classes: Path | None = None,
    out: Path | None = None,
    seed: int = 0,
    device: str = "cpu",
    json: bool = False,
    dry_run: bool = False,
    **settings: str,
) -> None:
    """Judge a dictionary: variance unexplained, L0, dead share, cross-entropy and KL recovered; or what --measure names. Judge
    explanations, on documents kept aside; or, with --diagnose, examine a model, its costs told first.

    actscope score runs/explained acts --model pocket --measure fuzzing

    actscope score pocket-mini --diagnose

    Args:
        judged: folder of a dictionary or of explanations; with --diagnose a model: built in, a folder or a hub id.
        on: folder of activations, better of text the dictionary was not trained on; with --diagnose a text to read.
        model: what dictionary and activations were made on; not with --diagnose.
        measure: one of `actscope methods scores.dictionary` or scores.explanation; may be given several times. A measure
            given alone takes its settings as flags, such as --forget NAME of unlearning.
        labels: the JSON lines captured, with "spans": [{"start": 0, "end": 4, "label": "name"}, ...] beside "text"; or grammar.
        other: folder of a dictionary to compare with, for `--measure stability`; may be given several times.
        judge: who guesses from an explanation where a latent fires: one of `actscope methods explainers.judges`.
        diagnose: examine the model itself.
        tokens: of the text, at least, for one pass of a diagnosis.
        dictionary: with --diagnose one to count latents of under noise; with explanations theirs, when it was moved.
        classes: a JSON file, {"class": ["word", ...]}, for word classes on a text of your own; with --diagnose.
        out: folder to save in; a diagnosis is saved in runs/diagnose when left out.
        seed: of the documents drawn again for the intervals, and of all sampling.
        device: where the model stands, "cpu" or "cuda"; not with --diagnose.
        json: print one JSON document and nothing else.
        dry_run: say what a diagnosis would cost, and do nothing.
        settings: the measure's own settings, and those of a judge that asks.
    """
    from actscope.cli import _diagnosis, _judged, _scored

    asked = bool(model or measure or labels or other or settings or device != "cpu" or judge != "rule")
    _check(judged, on, model, diagnose, asked if diagnose else classes is not None or dry_run)
    if diagnose:
        wanted = _diagnosis.Wanted(judged, on, tokens, dictionary, classes, out or Path("runs/diagnose"), seed)
        return _diagnosis.examine(wanted, json=json, dry_run=dry_run)
    assert on is not None and model is not None, "checked"
    flags = _scored.Flags(
        Path(judged), on, model, measure, labels, other or [], dictionary, judge, settings, out, seed, device, json
    )
    (_judged if flags.holds_values else _scored).judge(flags)


def _check(judged: str, on: Path | None, model: str | None, diagnose: bool, more: bool) -> None:
    """Raises UsageError where the uses of the verb are confused."""
    from actscope.core.errors import UsageError
    from actscope.subjects.load import BUILT_IN

    both = (
        "`actscope score DICTIONARY STORE --model NAME` judges a dictionary, or explanations in its place, `actscope score "
        "MODEL --diagnose [TEXT]` examines a model"
    )
    if diagnose:
        if more:
            raise UsageError(
                "--model, --measure, --labels, --other, --judge, --device and settings of a measure judge a dictionary or "
                f"explanations, not {judged} with --diagnose. {both}."
            )
        if (Path(judged) / "manifest.json").is_file():
            raise UsageError(f"{judged} holds an artifact of actscope; --diagnose takes a model. {both}.")
        return
    if judged.partition("@")[0] in BUILT_IN or (Path(judged) / "config.json").is_file():
        raise UsageError(f"{judged} is a model; to examine it, type `actscope score {judged} --diagnose`. {both}.")
    if on is None or model is None:
        lacking = "no store" if on is None else "no --model"
        raise UsageError(f"{judged} was given and {lacking}. {both}.")
    if more:
        raise UsageError(f"--classes and --dry-run belong to a diagnosis. {both}.")
