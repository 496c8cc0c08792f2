"""actscope score"""

from pathlib import Path

__all__ = ["score"]


def score(
    judged: str,
    on: Path | None = None,
    *,
    model: str | None = None,
    diagnose: bool = False,
    tokens: int = 10_000,
    dictionary: Path | None = None,
    classes: Path | None = None,
    out: Path | None = None,
    seed: int = 0,
    json: bool = False,
    dry_run: bool = False,
) -> None:
    """Judge a dictionary: variance unexplained, L0, dead share, cross-entropy recovered. With --diagnose, examine a model.

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
        diagnose: examine the model itself.
        tokens: of the text, at least, for one pass of a diagnosis.
        dictionary: one of the model, for counting its latents under noise; with --diagnose.
        classes: a JSON file, {"class": ["word", ...]}, for word classes on a text of your own; with --diagnose.
        out: folder to save in; a diagnosis is saved in runs/diagnose when left out.
        seed: of the documents drawn again for the intervals, and of all sampling.
        json: print one JSON document and nothing else.
        dry_run: say what a diagnosis would cost, and do nothing.
    """
    from actscope.cli import _common, _diagnosis

    _check(judged, on, model, diagnose, dictionary is not None or classes is not None or dry_run)
    if not diagnose:
        assert on is not None and model is not None, "checked"
        return _judge(Path(judged), on, model, out, seed, json)
    wanted = _diagnosis.Wanted(judged, on, tokens, dictionary, classes, out or Path("runs/diagnose"), seed)
    console = _common.console()
    ready = _diagnosis.ready(wanted)
    if dry_run or not json:
        console.print(_diagnosis.costs(ready))
    if dry_run:
        return None
    found = _diagnosis.run(wanted, ready, _common.plain_progress)
    if json:
        return _common.print_json(found.to_json())
    from actscope.reports.diagnosis import table

    console.print(table(found))
    console.print(f"\nThe page: {wanted.out / 'diagnosis.html'}", soft_wrap=True, markup=False)


def _check(judged: str, on: Path | None, model: str | None, diagnose: bool, more: bool) -> None:
    """Raises UsageError where the two uses of the verb are confused."""
    from actscope.core.errors import UsageError
    from actscope.subjects.load import BUILT_IN

    both = (
        "`actscope score DICTIONARY STORE --model NAME` judges a dictionary, `actscope score MODEL --diagnose [TEXT]` examines "
        "a model"
    )
    if diagnose:
        if model is not None:
            raise UsageError(f"--model {model} was given with --diagnose, whose model is {judged}. {both}.")
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


def _judge(dictionary: Path, store: Path, model: str, out: Path | None, seed: int, json: bool) -> None:
    import dataclasses

    from rich.table import Table

    from actscope.cli import _common
    from actscope.core import artifact
    from actscope.core.dictionary import Dictionary
    from actscope.core.errors import BadInput
    from actscope.scores._all import score as judge
    from actscope.subjects.load import load

    learned, kept = artifact.open(dictionary), artifact.open(store)
    is_store = artifact.read_manifest(store)["kind"] == "store"  # isinstance would open every shard
    for path, thing, right, kind in (
        (dictionary, learned, isinstance(learned, Dictionary), "dictionary"),
        (store, kept, is_store, "store"),
    ):
        if not right:
            raise BadInput(
                f"{path} holds a {type(thing).__name__}; expected a {kind}. "
                "The order is `actscope score DICTIONARY STORE --model NAME`."
            )
    scores = judge(learned, load(model), kept, seed=seed, progress=_common.plain_progress("score"))  # type: ignore[arg-type]
    if out is not None:
        artifact.save(scores, out)
    if json:
        return _common.print_json([dataclasses.asdict(one) for one in scores])
    table = Table("measure", "value", "95% interval", "control", "unit", "n", box=None, pad_edge=False)
    for one in scores:
        spread = "" if one.interval is None else f"{one.interval[0]:.4f} to {one.interval[1]:.4f}"
        control = "" if one.control is None else f"{one.control:g}"
        table.add_row(one.name, f"{one.value:.4f}", spread, control, one.unit, f"{one.n:,}")
        for name in ("clean", "spliced", "mean", "zero", "recovered_zero"):
            if one.name == "cross_entropy" and name in one.parts:
                unit = "share of the zero-ablation gap" if name == "recovered_zero" else "nats per token"
                table.add_row(f"  {name}", f"{one.parts[name]:.4f}", "", "", unit, "")
    _common.console().print(table)
