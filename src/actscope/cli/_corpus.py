"""Texts by name on the command line."""

from collections.abc import Callable
from pathlib import Path

from actscope.core.corpus import Corpus
from actscope.core.errors import BadInput, UsageError, nearest

_BUILT_IN = {"standard-library": ("all", "train", "held"), "grammar": ("test", "train")}
_HUB = "hf:"


def corpus_named(
    name: str,
    *,
    column: str = "text",
    split: str | None = None,
    render: Callable[..., str] | None = None,
) -> Corpus:
    """A file, a folder, "standard-library" or "grammar", these two with a split after a colon ("grammar:train"), or a dataset
    of the hub ("hf:org/name", "hf:org/name:config@revision").

    column: the field of JSON lines, Parquet and datasets; split: of a dataset; render: how dialogues are written.
    Raises BadInput for anything else, UsageError for a split there is not and for settings that belong to something else.
    """
    hub = name.startswith(_HUB) and not Path(name).exists()
    if not hub and split is not None:
        raise UsageError(f"--split belongs to a dataset of the hub, such as hf:org/name; {name} was given.")
    if hub:
        from actscope.corpora.datasets import datasets

        place, _, revision = name.removeprefix(_HUB).partition("@")
        id, _, config = place.partition(":")
        return datasets(id, column=column, split=split, config=config or None, revision=revision or None, render=render)
    base, _, part = name.partition(":")
    if base not in _BUILT_IN or Path(name).exists():
        return _here(Path(name).expanduser(), base, column, render)
    if part and part not in _BUILT_IN[base]:
        raise UsageError(f"{base} has no split {part!r}; it has {', '.join(_BUILT_IN[base])}.")
    part = part or _BUILT_IN[base][0]
    if base == "grammar":
        from actscope.organisms.grammar import grammar

        return grammar(documents=1_000_000, split=part)  # type: ignore[arg-type]
    from actscope.corpora.standard_library import standard_library

    return standard_library(split=part)  # type: ignore[arg-type]


def _here(path: Path, base: str, column: str, render: Callable[..., str] | None) -> Corpus:
    """A file or folder: Parquet, or text. A folder with both is refused: which of them is meant is not ours to say."""
    if not path.exists():
        raise BadInput(
            f"There is no file or folder {path}{nearest(base, _BUILT_IN)} Expected text (.txt, .md, .py, .jsonl, .jsonl.gz, "
            f".parquet, or a folder), hf:org/name, or {' or '.join(_BUILT_IN)}."
        )
    from actscope.corpora.files import files
    from actscope.corpora.parquet import parquet

    tables = path.suffix == ".parquet" or (path.is_dir() and any(path.rglob("*.parquet")))
    if not tables:
        return files(path, column=column, render=render)
    try:
        text = path.is_dir() and files(path, column=column, render=render)
    except BadInput:
        text = None
    if text:
        raise BadInput(f"{path} holds Parquet and text; expected one of them. Give the files' own folder, or one file.")
    return parquet(path, column=column, render=render)
