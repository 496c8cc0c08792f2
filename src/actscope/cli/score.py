"""actscope score"""

from pathlib import Path

__all__ = ["score"]


def score(
    dictionary: Path,
    store: Path,
    *,
    model: str,
    measure: list[str] | None = None,
    other: list[Path] | None = None,
    out: Path | None = None,
    seed: int = 0,
    device: str = "cpu",
    json: bool = False,
) -> None:
    """Judge a dictionary: variance unexplained, L0, dead share, cross-entropy and KL recovered; or what --measure names.

    Args:
        dictionary: folder of a dictionary made by `actscope fit`.
        store: folder of activations made by `actscope capture`, better of text the dictionary was not trained on.
        model: what both were made on: pocket, a transformers folder or a hub id.
        measure: one of `actscope methods scores.dictionary`, may be given several times; without it, those that are cheap.
            Measures of labels ask for the first letter of each token.
        other: folder of a dictionary to compare with, for `--measure stability`; may be given several times.
        out: folder to save the scores in.
        seed: of the documents drawn again for the intervals.
        device: where the model stands, "cpu" or "cuda".
        json: print one JSON document and nothing else.
    """
    import dataclasses

    from rich.table import Table

    from actscope.cli import _common
    from actscope.core import artifact
    from actscope.core.dictionary import Dictionary
    from actscope.core.errors import BadInput
    from actscope.scores._all import score as judge
    from actscope.subjects.load import load

    learned, kept = artifact.open(dictionary), artifact.open(store)
    compared = {path: artifact.open(path) for path in other or ()}
    is_store = artifact.read_manifest(store)["kind"] == "store"  # isinstance would open every shard
    for path, thing, right, kind in (
        *((path, one, isinstance(one, Dictionary), "dictionary") for path, one in {dictionary: learned, **compared}.items()),
        (store, kept, is_store, "store"),
    ):
        if not right:
            raise BadInput(
                f"{path} holds a {type(thing).__name__}; expected a {kind}. "
                "The order is `actscope score DICTIONARY STORE --model NAME`."
            )
    scores = judge(
        learned,  # type: ignore[arg-type]
        load(model, device=device),
        kept,  # type: ignore[arg-type]
        measures=measure,
        others=list(compared.values()),  # type: ignore[arg-type]
        seed=seed,
        progress=_common.plain_progress("score"),
    )
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
