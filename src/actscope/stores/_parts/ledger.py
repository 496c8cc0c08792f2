"""Which units of a capture stand, and which come next.

Units are committed in order. Where several processes work, some stand while one before them is missing: those wait in `ahead`,
and a restart, with however many processes, adopts them when their turn comes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from actscope.core import files
from actscope.core.errors import Corrupt

JOURNALS = "journal-*.json"


@dataclass
class Ledger:
    """number, cursor, rows: of the next unit, the document it begins with, the rows before it. entries: committed here."""

    number: int
    cursor: int
    rows: int
    ahead: dict[int, dict] = field(default_factory=dict)
    entries: list[dict] = field(default_factory=list)

    def add(self, entry: dict) -> None:
        """The next unit."""
        assert entry["documents"][0] == self.cursor, (
            f"unit {self.number} begins with {entry['documents'][0]}, not {self.cursor}"
        )
        self.entries.append(entry)
        self.number, self.cursor, self.rows = self.number + 1, entry["documents"][1], self.rows + entry["rows"]

    def adopt(self, wanted: int | None) -> None:
        """Take the units that stand already, as far as none is missing and until `wanted` rows. What begins elsewhere than
        where its turn comes is forgotten."""
        while self.number in self.ahead and not self.reached(wanted):
            entry = self.ahead.pop(self.number)
            if entry["documents"][0] == self.cursor:
                self.add(entry)

    def reached(self, wanted: int | None) -> bool:
        return wanted is not None and self.rows >= wanted

    def told(self) -> dict:
        """All that other processes need to know of it, as JSON can say."""
        return {"number": self.number, "cursor": self.cursor, "rows": self.rows, "ahead": list(self.ahead.items())}

    @classmethod
    def heard(cls, said: Mapping) -> "Ledger":
        return cls(said["number"], said["cursor"], said["rows"], {number: entry for number, entry in said["ahead"]})


def write_journal(path: Path, settings: Mapping, units: list[tuple[int, dict]]) -> None:
    """Say durably which units one process has written since the last manifest."""
    said = {"settings": _hash(settings), "units": units}
    files.write_json(path, {**said, "content": _hash(said)})


def read_journals(folder: Path, settings: Mapping) -> dict[int, dict]:
    """Units by number that killed processes wrote for a capture with these settings; a damaged journal is set aside, and its
    units are run again."""
    found: dict[int, dict] = {}
    for path in sorted(folder.glob(JOURNALS)):
        try:
            said = files.read_json(path)
            sound = said.pop("content", None) == _hash(said)
        except Corrupt:
            sound = False
        if not sound:
            files.set_aside(path)
        elif said["settings"] == _hash(settings):
            found.update((number, entry) for number, entry in said["units"])
    return {number: entry for number, entry in found.items() if files.safe_join(folder, entry["file"]).is_file()}


def clear_journals(folder: Path) -> None:
    """Delete them, when the manifest says what they said."""
    for path in folder.glob(JOURNALS):
        path.unlink(missing_ok=True)


def _hash(value: object) -> str:
    return files.sha256(json.dumps(value, sort_keys=True).encode())
