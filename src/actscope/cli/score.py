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
    explanations by other measures than they came with. With --diagnose, examine a model.

    actscope score runs/sae acts --model pocket

    actscope score runs/sae acts --model pocket --measure sparse_probing --labels notes.jsonl

    actscope score runs/explained acts --model pocket --measure fuzzing --measure clarity

    actscope score pocket-mini --diagnose

    Explanations are judged on the documents that took no part in finding them, by their rules; or, with --judge
    language_model, by who is asked as in `actscope explain`: --explainer-model, --endpoint, --budget and the others.

    A diagnosis says first what each measure costs, then measures, and writes diagnosis.json and diagnosis.html: massive
    activations, attention sinks, lazy neurons, geometry, void layers, word classes, influence, agreement of answers. A model
    with checkpoints is followed through them: pocket-mini, or a folder whose folders are named step-N or checkpoint-N.

    Args:
        judged: folder of a dictionary made by `actscope fit`, or of explanations made by `actscope explain`; with --diagnose a
            model: built in, a folder or a hub id.
        on: folder of activations made by `actscope capture`, better of text the dictionary was not trained on; with
            --diagnose a text to read, in place of the built-in one.
        model: what dictionary and activations were made on; not with --diagnose.
        measure: one of `actscope methods scores.dictionary`, or for explanations of `actscope methods scores.explanation`;
            may be given several times. Without it, of a dictionary those that are cheap, of explanations detection. Any
            setting of a measure given alone is a flag too, such as --forget NAME of unlearning.
        labels: what is true of the text that was captured, for measures that need labels: the same file of JSON lines, where
            "spans" lists [{"start": 0, "end": 4, "label": "name"}, ...] by characters of "text"; or grammar, where that was
            captured. Without it, measures that can do with them ask for the first letter of each token.
        other: folder of a dictionary to compare with, for `--measure stability`; may be given several times.
        judge: who guesses from an explanation where a latent fires: one of `actscope methods explainers.judges`.
        diagnose: examine the model itself.
        tokens: of the text, at least, for one pass of a diagnosis.
        dictionary: with --diagnose one of the model, for counting its latents under noise; with explanations, where their
            dictionary stands now, when it was moved.
        classes: a JSON file, {"class": ["word", ...]}, for word classes on a text of your own; with --diagnose.
        out: folder to save in; a diagnosis is saved in runs/diagnose when left out.
        seed: of the documents drawn again for the intervals, and of all sampling.
        device: where the model stands, "cpu" or "cuda"; not with --diagnose.
        json: print one JSON document and nothing else.
        dry_run: say what a diagnosis would cost, and do nothing.
        settings: the measure's own settings, and those of a judge that asks.
    """
    from actscope.cli import _diagnosis, _judged, _scored

    of_artifacts = bool(model or measure or labels or other or settings or device != "cpu" or judge != "rule")
    of_a_model = classes is not None or dry_run
    _check(judged, on, model, diagnose, of_artifacts if diagnose else of_a_model)
    if diagnose:
        wanted = _diagnosis.Wanted(judged, on, tokens, dictionary, classes, out or Path("runs/diagnose"), seed)
        return _diagnosis.examine(wanted, json=json, dry_run=dry_run)
    assert on is not None and model is not None, "checked"
    place = _scored.Place(Path(judged), on, model, labels, out, seed, device, json)
    if place.holds_values:
        return _judged.judge(place, measure or ["detection"], other or [], dictionary, judge, settings)
    _scored.judge(place, measure, other or [], dictionary, judge, settings)


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
