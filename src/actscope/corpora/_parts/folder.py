"""Which files of a folder a corpus reads."""

from collections.abc import Sequence
from pathlib import Path

from actscope.core.errors import BadInput, EmptyCorpus
from actscope.core.files import stays_inside


def found_in(root: Path, endings: Sequence[str], what: str) -> list[Path]:
    """The file given, or every file of a folder and below with one of these endings, by name, hidden ones left out.

    Raises BadInput for what is not there, a file with another ending, what is no plain file, or a link out of the folder;
    EmptyCorpus for a folder without any.
    """
    known = ", ".join(endings)
    if not root.exists():
        raise BadInput(f"There is no file or folder {root}; expected one with {what} ({known}).")
    if root.is_dir():
        every = sorted(one for one in root.rglob("*") if ending(one, endings) and one.is_file())
        found = [one for one in every if not any(part.startswith(".") for part in one.relative_to(root).parts)]
        for one in found:
            if not stays_inside(one, root):
                raise BadInput(
                    f"{one} leads out of {root}: it is a link, or stands behind one. Give the folder it leads to, or copy the "
                    "files themselves: cp -rL FOLDER NEW."
                )
        if not found:
            raise EmptyCorpus(f"The folder {root} holds no {what} file; expected {known} in it or below.")
        return found
    if not ending(root, endings):
        raise BadInput(f"{root} ends in {root.suffix or 'nothing'!r}; expected {known}. Rename it, or give a folder.")
    if not root.is_file():
        raise BadInput(f"{root} is a pipe, a socket or a device; expected a file.")
    return [root]


def ending(path: Path, endings: Sequence[str]) -> str:
    """The longest of the endings that a file's name has; "" for none."""
    name = path.name.lower()
    return max((one for one in endings if name.endswith(one) and len(name) > len(one)), key=len, default="")
