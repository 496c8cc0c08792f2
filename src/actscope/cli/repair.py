"""actscope repair"""

from functools import cache
from pathlib import Path

__all__ = ["repair"]


def repair(
    folder: Path,
    model: str,
    corpus: str,
    *,
    column: str = "text",
    split: str | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    json: bool = False,
) -> None:
    """Capture the damaged files of a store again, and only those; its manifest too.

    Args:
        folder: a store that `actscope capture` made.
        model: the model it was captured from.
        corpus: the text it was captured from.
        column: the field that was read of JSON lines, Parquet or a dataset.
        split: of a dataset.
        device: the device it was captured on.
        dtype: the dtype it was captured with.
        json: print one JSON document and nothing else.
    """
    from actscope.cli import _common
    from actscope.cli._corpus import corpus_named
    from actscope.core import artifact
    from actscope.stores.repair import repair as make_again
    from actscope.subjects.load import load

    if not (folder / "about.json").is_file():  # no artifact: said before a model is loaded
        artifact.read_manifest(folder)
    opened = cache(lambda: load(model, device=device, dtype=dtype))
    text, subject = corpus_named(corpus, column=column, split=split, subject=opened), opened()
    done = make_again(folder, subject, text, progress=_common.plain_progress("repair"))
    if json:
        return _common.print_json({"path": str(folder), "repaired": done})
    _common.console().print(
        f"{len(done)} files made again{': ' + ', '.join(done) if done else '; none was damaged'}.", markup=False
    )
