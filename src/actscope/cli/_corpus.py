"""Texts by name on the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from actscope.core.corpus import Corpus
from actscope.core.errors import BadInput, UsageError, nearest

_BUILT_IN = {"standard-library": ("all", "train", "held"), "grammar": ("test", "train")}
_HUB = "hf:"
_KINDS = {
    "text": (".txt", ".md", ".py", ".jsonl", ".jsonl.gz"),
    "Parquet": (".parquet",),
    "images": (".png", ".jpg", ".jpeg", ".webp", ".bmp"),
}


def corpus_named(
    name: str,
    *,
    column: str = "text",
    split: str | None = None,
    subject: Callable[[], Any] | None = None,
    spans: str | None = None,
) -> Corpus:
    """A file, a folder, "standard-library" or "grammar", these two with a split after a colon ("grammar:train"), or a dataset
    of the hub ("hf:org/name", "hf:org/name:config@revision").

    column: the field of JSON lines, Parquet and datasets; split: of a dataset; subject: gives the model, whose chat
    template writes dialogues, and whose folder says how images are prepared; asked for where that is needed and no earlier.
    spans: the field of JSON lines that labels characters.
    Raises BadInput for anything else, UsageError for a split there is not and for settings that belong to something else.
    """
    render = None if subject is None else lambda messages: subject().render(messages)
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
        return _here(Path(name).expanduser(), base, column, render, subject, spans)
    if part and part not in _BUILT_IN[base]:
        raise UsageError(f"{base} has no split {part!r}; it has {', '.join(_BUILT_IN[base])}.")
    part = part or _BUILT_IN[base][0]
    if base == "grammar":
        from actscope.organisms.grammar import grammar

        return grammar(documents=1_000_000, split=part)  # type: ignore[arg-type]
    from actscope.corpora.standard_library import standard_library

    return standard_library(split=part)  # type: ignore[arg-type]


def _here(
    path: Path,
    base: str,
    column: str,
    render: Callable[..., str] | None,
    subject: Callable[[], Any] | None,
    spans: str | None,
) -> Corpus:
    """A file or folder: Parquet, text or images. A folder with two of them is refused: which is meant is not ours to say."""
    if not path.exists():
        raise BadInput(
            f"There is no file or folder {path}{nearest(base, _BUILT_IN)} Expected text (.txt, .md, .py, .jsonl, .jsonl.gz, "
            f".parquet, images, or a folder), hf:org/name, or {' or '.join(_BUILT_IN)}."
        )
    kinds = {kind for kind in (_kind(one) for one in ([path] if path.is_file() else path.rglob("*"))) if kind}
    if len(kinds) > 1:
        raise BadInput(
            f"{path} holds {' and '.join(sorted(kinds))}; expected one of them. Give the files' own folder, or one file."
        )
    if kinds == {"images"}:
        return _images(path, subject)
    if kinds == {"Parquet"}:
        from actscope.corpora.parquet import parquet

        return parquet(path, column=column, render=render)
    from actscope.corpora.files import files

    return files(path, column=column, render=render, spans=spans)


def _kind(path: Path) -> str:
    name = path.name.lower()
    return next((kind for kind, endings in _KINDS.items() if name.endswith(endings) and not name.startswith(".")), "")


def _images(path: Path, subject: Callable[[], Any] | None) -> Corpus:
    from actscope.corpora.images import images

    settings = None if subject is None else subject().preprocessing
    if settings is None:
        raise BadInput(
            f"{path} holds images, and no model says how they are prepared; expected one whose preprocessor_config.json asks "
            "for resizing, cutting and normalising alone. In Python, corpora.images.images(path, size=, mean=, std=) says it."
        )
    return images(path, **settings)
