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
    from actscope.cli._scored import Run

    Run(dictionary, store, model, measure, other or [], out, seed, device, json).do()
