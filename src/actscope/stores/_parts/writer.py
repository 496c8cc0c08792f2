"""Writing a store: shard, then manifest, unit after unit, in a thread beside the model's runs."""

import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from torch import Tensor

from actscope.core import artifact, files, lock
from actscope.core.errors import BadInput, Corrupt, WrongSubject
from actscope.stores._parts.ledger import Ledger, clear_journals, read_journals, write_journal
from actscope.stores._parts.manifest import hashed, listed, named
from actscope.stores._parts.order import Part

_WAITING = 2  # units in memory that are not written yet
_EVERY = 64  # units with a manifest each; later ones share one with a quarter as many as stand, for it names all of them


class Behind:
    """Writes done one after another in a thread. After one failure no later one is done: it would stand without its
    predecessor. Use as a context manager."""

    def __enter__(self) -> "Behind":
        self._pool = ThreadPoolExecutor(1)
        self._waiting: list[Future] = []
        self._failed = False
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=error[0] is not None)

    def do(self, write: Callable[[], object]) -> None:
        """Have it done; waits only when the disk is far behind."""
        self._waiting.append(self._pool.submit(self._once, write))
        while len(self._waiting) > _WAITING or (self._waiting and self._waiting[0].done()):
            self._waiting.pop(0).result()

    def flush(self) -> None:
        """Wait until all is done."""
        while self._waiting:
            self._waiting.pop(0).result()

    def _once(self, write: Callable[[], object]) -> None:
        if self._failed:
            return
        self._failed = True
        write()
        self._failed = False


class Writer:
    """The one writer of a store's folder, new or begun before. Use as a context manager.

    `ledger` is what stands when it is entered. Raises BadInput when another writes, when the folder holds other things or a
    capture with other settings.
    """

    def __init__(self, folder: Path, settings: dict, *, kept_threads: bool):
        self.folder, self.settings = folder, settings
        self._kept_threads = kept_threads
        self._stack = ExitStack()
        self.complete = False
        self.run = secrets.token_hex(4)
        self.ledger = Ledger(0, settings["start"], 0)
        self._noted: list[tuple[int, dict]] = []  # in the newest journal
        self._due, self._journals = 0, 0

    def __enter__(self) -> "Writer":
        with self._stack as stack:
            make_folder(self.folder)
            stack.enter_context(lock.hold(self.folder))
            files.remove_leftovers(self.folder)
            self._begin()
            self._behind = stack.enter_context(Behind())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)  # type: ignore[arg-type]

    def add(self, part: Part, tensors: Mapping[str, Tensor]) -> None:
        """Have the next unit written and committed."""
        self._behind.do(lambda: self._write(part, tensors))

    def flush(self) -> None:
        """Wait until every unit is committed."""
        self._behind.flush()

    def commit(self) -> None:
        """Commit what the ledger says, and what was said in journals with it."""
        self._commit(complete=False)
        clear_journals(self.folder)
        self._noted, number = [], self.ledger.number
        self._due = number + 1 if number < _EVERY else number + max(1, number // 4)

    def finish(self) -> str:
        """Commit the finished store; returns its content hash."""
        self.flush()
        self.ledger.ahead.clear()
        content = self._commit(complete=True)
        clear_journals(self.folder)
        return content

    def _write(self, part: Part, tensors: Mapping[str, Tensor]) -> None:
        """A unit's file, then what names it: the manifest, or between two of these a journal, which a restart adopts."""
        entry = write_unit(self.folder, self.ledger.number, part, tensors)
        self.ledger.add(entry)
        if self.ledger.number >= self._due:
            self.commit()
        else:
            self._note(self.ledger.number - 1, entry)
        files.fault_point("capture.commit")

    def _note(self, number: int, entry: dict) -> None:
        """Name a unit in a journal; one holds so few that to write it again for each takes no time."""
        if not self._noted or len(self._noted) >= _EVERY:
            self._noted, self._journals = [], self._journals + 1
        self._noted.append((number, entry))
        write_journal(self.folder / f"journal-{self.run}-own-{self._journals:06d}.json", self.settings, self._noted)

    def _commit(self, *, complete: bool) -> str:
        return commit(self.folder, self.settings, self.ledger, complete=complete)

    def _begin(self) -> None:
        if not (self.folder / "manifest.json").exists():
            others = sorted(path.name for path in self.folder.iterdir() if path.name != lock.NAME)
            if any(name.startswith("unit-") for name in others):
                raise Corrupt(
                    f"{self.folder / 'manifest.json'} is missing beside {others[-1]}; `actscope repair {self.folder} MODEL "
                    "CORPUS` makes it again."
                )
            if others:
                raise BadInput(
                    f"{self.folder} holds other things ({', '.join(others[:3])}); give a new or empty folder as --out."
                )
            self._commit(complete=False)
            return
        manifest = artifact.read_manifest(self.folder)
        if manifest["kind"] != "store":
            raise BadInput(f"{self.folder} holds a saved {manifest['kind']}; give another --out for this capture.")
        entries, ahead = hashed(manifest)
        if entries or ahead or manifest["complete"]:
            self._refuse_other(manifest["settings"])
        elif self._asked(manifest["settings"]) != manifest["settings"]:  # nothing to go on from, nothing to protect
            clear_journals(self.folder)
            for path in self.folder.glob("unit-*.safetensors"):
                path.unlink()
            self._commit(complete=False)
            return
        self.settings, self.complete = manifest["settings"], manifest["complete"]
        self._go_on(entries, ahead)

    def _go_on(self, entries: list[dict], ahead: dict[int, dict]) -> None:
        for entry in entries:
            self.ledger.add(entry)
        missing = [entry["file"] for entry in entries if not files.safe_join(self.folder, entry["file"]).is_file()]
        if missing:
            raise Corrupt(
                f"{self.folder / missing[0]} is missing although the manifest names it; `actscope repair {self.folder} MODEL "
                "CORPUS` captures it again."
            )
        said = {} if self.complete else read_journals(self.folder, self.settings)
        self.ledger.ahead = {number: entry for number, entry in {**said, **ahead}.items() if number >= self.ledger.number}
        if said:
            self.commit()

    def _asked(self, there: Mapping) -> dict:
        """This capture's settings; where none were asked for, with the threads of one begun before."""
        return {**self.settings, **({"threads": there.get("threads")} if self._kept_threads else {})}

    def _refuse_other(self, there: dict) -> None:
        """Raises with the differences between a capture begun before and this one."""
        mine = self._asked(there)
        if there.get("subjects") != mine["subjects"]:
            began, now = (settings.get("subjects", {}).get("", "")[:12] for settings in (there, mine))
            raise WrongSubject(
                f"{self.folder} was captured from a subject with fingerprint {began}; this one has {now}. Give the same "
                "model, or another --out."
            )
        if there.get("corpus") != mine["corpus"]:
            raise BadInput(
                f"The text has changed since the capture in {self.folder} began; give the same text, or another --out."
            )
        keys = [*mine, *(key for key in there if key not in mine)]
        differ = [f"{key}={there.get(key)} there, {mine.get(key)} given" for key in keys if there.get(key) != mine.get(key)]
        if differ:
            raise BadInput(
                f"{self.folder} holds a capture with other settings: {'; '.join(differ)}. Give the same, or another --out."
            )


class Journal:
    """What one of several processes writes: units, and durably which those are, until the manifest says so. Use as a context
    manager."""

    def __init__(self, folder: Path, run: str, rank: int, settings: Mapping):
        self.folder, self.settings = folder, settings
        self.path = folder / f"journal-{run}-{rank:04d}.json"
        self._units: list[tuple[int, dict]] = []

    def __enter__(self) -> "Journal":
        self._behind = Behind().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._behind.__exit__(*error)

    def begin(self) -> None:
        """Forget what the manifest says by now."""
        self._units = []

    def add(self, number: int, part: Part, tensors: Mapping[str, Tensor]) -> None:
        self._behind.do(lambda: self._write(number, part, tensors))

    def flush(self) -> list[tuple[int, dict]]:
        """(number, entry) of every unit since `begin`, all of them durable."""
        self._behind.flush()
        return self._units

    def _write(self, number: int, part: Part, tensors: Mapping[str, Tensor]) -> None:
        self._units.append((number, write_unit(self.folder, number, part, tensors)))
        write_journal(self.path, self.settings, self._units)
        files.fault_point("capture.commit")


def write_unit(folder: Path, number: int, part: Part, tensors: Mapping[str, Tensor]) -> dict:
    """Write a unit's file, named after its content; returns its entry."""
    entry, data = named(number, part, tensors)
    files.write_bytes(folder / str(entry["file"]), data)
    files.fault_point("capture.shard")
    return entry


def commit(folder: Path, settings: Mapping, ledger: Ledger, *, complete: bool) -> str:
    """Write the manifest, and in the side file what it takes to make a damaged one again; returns the content hash."""
    manifest = listed(settings, ledger.entries, complete=complete, ahead=ledger.ahead)
    again = {"store": artifact.FORMAT, "settings": settings, "whole": artifact.content_hash(manifest) if complete else None}
    return artifact.commit(folder, manifest, again={**again, "content": artifact.content_hash(again)})


def said_aside(folder: Path) -> dict:
    """{"settings", "whole": the content hash once it is complete, else None} of a store, from beside its manifest. Raises
    Corrupt where that is damaged too."""
    about = files.read_json(folder / "about.json") if (folder / "about.json").is_file() else {}
    again = about.get("again")
    if not isinstance(again, dict) or again.get("content") != artifact.content_hash(again) or again["store"] != artifact.FORMAT:
        raise Corrupt(
            f"{folder / 'manifest.json'} is damaged or missing, and {folder / 'about.json'} does not say what it was made "
            "with; capture again into another folder."
        )
    return again


def make_folder(folder: Path) -> None:
    """The folder, made when it is not there. Raises BadInput when it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"Cannot make the folder {folder}: {error.strerror}. Give another one with --out.") from error
