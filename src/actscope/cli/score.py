"""actscope score"""

from pathlib import Path

__all__ = ["score"]


def score(
    judged: str,
    on: Path | None = None,
    *,
    model: str | None = None,
    measure: list[str] | None = None,
    other: list[Path] | None = None,
    diagnose: bool = False,
    tokens: int = 10_000,
    dictionary: Path | None = None,
    classes: Path | None = None,
    out: Path | None = None,
    seed: int = 0,
    device: str = "cpu",
    json: bool = False,
    dry_run: bool = False,
) -> None:
    """Judge a dictionary: variance unexplained, L0, dead share, cross-entropy and KL recovered; or what --measure names. With
    --diagnose, examine a model.

    actscope score runs/sae acts --model pocket

    actscope score pocket-mini --diagnose

    A diagnosis says first what each measure costs, then measures, and writes diagnosis.json and diagnosis.html: massive
    activations, attention sinks, lazy neurons, geometry, void layers, word classes, influence, agreement of answers. A model
    with checkpoints is followed through them: pocket-mini, or a folder whose folders are named step-N or checkpoint-N.

    Args:
        judged: folder of a dictionary made by `actscope fit`; with --diagnose a model: built in, a folder or a hub id.
        on: folder of activations made by `actscope capture`, better of text the dictionary was not trained on; with
            --diagnose a text to read, in place of the built-in one.
        model: what dictionary and activations were made on; not with --diagnose.
        measure: one of `actscope methods scores.dictionary`, may be given several times; without it, those that are cheap.
            Measures of labels ask for the first letter of each token.
        other: folder of a dictionary to compare with, for `--measure stability`; may be given several times.
        diagnose: examine the model itself.
        tokens: of the text, at least, for one pass of a diagnosis.
        dictionary: one of the model, for counting its latents under noise; with --diagnose.
        classes: a JSON file, {"class": ["word", ...]}, for word classes on a text of your own; with --diagnose.
        out: folder to save in; a diagnosis is saved in runs/diagnose when left out.
        seed: of the documents drawn again for the intervals, and of all sampling.
        device: where the model stands, "cpu" or "cuda"; not with --diagnose.
        json: print one JSON document and nothing else.
        dry_run: say what a diagnosis would cost, and do nothing.
    """
    from actscope.cli import _diagnosis
    from actscope.cli._scored import Run

    of_a_model = dictionary is not None or classes is not None or dry_run
    of_a_dictionary = bool(model or measure or other or device != "cpu")
    _check(judged, on, model, diagnose, of_a_dictionary if diagnose else of_a_model)
    if not diagnose:
        assert on is not None and model is not None, "checked"
        return Run(Path(judged), on, model, measure, other or [], out, seed, device, json).do()
    wanted = _diagnosis.Wanted(judged, on, tokens, dictionary, classes, out or Path("runs/diagnose"), seed)
    _diagnosis.examine(wanted, json=json, dry_run=dry_run)


def _check(judged: str, on: Path | None, model: str | None, diagnose: bool, more: bool) -> None:
    """Raises UsageError where the two uses of the verb are confused."""
    from actscope.core.errors import UsageError
    from actscope.subjects.load import BUILT_IN

    both = (
        "`actscope score DICTIONARY STORE --model NAME` judges a dictionary, `actscope score MODEL --diagnose [TEXT]` examines "
        "a model"
    )
    if diagnose:
        if more:
            raise UsageError(
                f"--model, --measure, --other and --device judge a dictionary, not {judged} with --diagnose. {both}."
            )
        if (Path(judged) / "manifest.json").is_file():
            raise UsageError(f"{judged} holds an artifact of actscope; --diagnose takes a model. {both}.")
        return
    if judged.partition("@")[0] in BUILT_IN or (Path(judged) / "config.json").is_file():
        raise UsageError(f"{judged} is a model; to examine it, type `actscope score {judged} --diagnose`. {both}.")
    if on is None or model is None:
        lacking = "no store" if on is None else "no --model"
        raise UsageError(f"A dictionary was given and {lacking}. {both}.")
    if more:
        raise UsageError(f"--dictionary, --classes and --dry-run belong to a diagnosis. {both}.")
