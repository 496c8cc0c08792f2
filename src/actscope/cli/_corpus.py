"""Texts by name on the command line."""

from pathlib import Path

from actscope.core.corpus import Corpus
from actscope.core.errors import BadInput, UsageError, nearest

_BUILT_IN = {"standard-library": ("all", "train", "held"), "grammar": ("test", "train")}


def corpus_named(name: str) -> Corpus:
    """A file, a folder, "standard-library" or "grammar", these two with a split after a colon ("grammar:train").

    Raises BadInput for anything else, UsageError for a split there is not.
    """
    base, _, split = name.partition(":")
    if base not in _BUILT_IN or Path(name).exists():
        if not Path(name).expanduser().exists():
            raise BadInput(
                f"There is no file or folder {name}{nearest(base, _BUILT_IN)} Expected text (.txt, .md, .py, .jsonl, or a "
                f"folder), or {' or '.join(_BUILT_IN)}."
            )
        from actscope.corpora.files import files

        return files(name)
    if split and split not in _BUILT_IN[base]:
        raise UsageError(f"{base} has no split {split!r}; it has {', '.join(_BUILT_IN[base])}.")
    split = split or _BUILT_IN[base][0]
    if base == "grammar":
        from actscope.organisms.grammar import grammar

        return grammar(documents=1_000_000, split=split)  # type: ignore[arg-type]
    from actscope.corpora.standard_library import standard_library

    return standard_library(split=split)  # type: ignore[arg-type]
