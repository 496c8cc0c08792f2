"""Making a store's damaged files again."""

import json
import re
from pathlib import Path

from actscope.core import artifact, files, lock
from actscope.core.corpus import Corpus
from actscope.core.errors import BadInput, Corrupt, WrongSubject
from actscope.core.progress import Progress, quiet
from actscope.core.subject import Subject
from actscope.stores._parts.job import Job, write_alone
from actscope.stores._parts.ledger import Ledger, clear_journals, read_journals
from actscope.stores._parts.manifest import described, measured, named
from actscope.stores._parts.pieces import planned
from actscope.stores._parts.running import threads_of
from actscope.stores._parts.writer import commit, said_aside

__all__ = ["repair"]

MANIFEST = "manifest.json"


def repair(path: Path | str, subject: Subject, corpus: Corpus, *, progress: Progress = quiet) -> list[str]:
    """Capture again only the units whose files are damaged or missing; returns the names of the files made again. What was
    damaged is set aside under `.corrupt-...`, and a file is replaced only by one with the hash that the manifest gives. A
    damaged manifest is made again from the units that are whole and from the side file; a finished store then has the content
    hash it had, and an unfinished one is gone on with by its command.

    Raises BadInput for no store or another text, WrongSubject, Corrupt when this machine computes other bytes, and when the
    side file is damaged with the manifest.
    """
    path = Path(path)
    try:
        manifest = artifact.read_manifest(path)
    except (Corrupt, BadInput):
        if not path.is_dir() or not any((path / name).is_file() for name in (MANIFEST, "about.json")):
            raise
        again = said_aside(path)
        job = _job(path, again["settings"], subject, corpus, progress)
        return _manifest_again(path, job, again["whole"])
    if manifest["kind"] != "store":
        raise BadInput(
            f"{path} holds a saved {manifest['kind']}; only stores are repaired. Run the command that made it again."
        )
    return _units_again(path, manifest, _job(path, manifest["settings"], subject, corpus, progress))


def _job(path: Path, settings: dict, subject: Subject, corpus: Corpus, progress: Progress) -> Job:
    if settings["subjects"].get("") != subject.fingerprint:
        raise WrongSubject(f"{path} was captured from another model than {subject.name}; give the one it was captured from.")
    if settings["corpus"] != corpus.fingerprint:
        raise BadInput(f"{path} was captured from another text than {corpus.name}; give the same text, unchanged.")
    return Job(subject, corpus, [port.site for port in described(settings)[0]], settings, progress)


def _units_again(path: Path, manifest: dict, job: Job) -> list[str]:
    settings = job.settings
    units = [*enumerate(manifest["units"]), *manifest.get("ahead", [])]
    with lock.hold(path), threads_of(settings["threads"]):
        wrong = artifact.damaged(path)
        for done, name in enumerate(wrong):
            job.progress(done, len(wrong), name)
            number, first = next((number, unit["documents"][0]) for number, unit in units if unit["file"] == name)
            unit = next(planned(job.subject, job.corpus, first, settings["context"], settings["unit"]))
            entry, data = named(number, *job.run(unit))
            if entry["file"] != name or entry["sha256"] != manifest["files"][name]:
                raise Corrupt(
                    f"{name} cannot be made again here: this machine or this torch computes other last bits. "
                    "Capture again into another folder."
                )
            if (path / name).exists():
                files.set_aside(path / name)
            files.write_bytes(path / name, data)
    job.progress(len(wrong), len(wrong), "files")
    return list(wrong)


def _manifest_again(path: Path, job: Job, whole: str | None) -> list[str]:
    """whole: the content hash of a store that was finished."""
    with lock.hold(path):
        if (path / MANIFEST).exists():
            files.set_aside(path / MANIFEST)
        standing = _standing(path) | read_journals(path, job.settings)
        commit(path, job.settings, Ledger(0, job.settings["start"], 0, standing), complete=False)
        clear_journals(path)
    if whole is None:
        return [MANIFEST]
    write_alone(job, path, kept_threads=False)
    manifest = artifact.read_manifest(path)
    if manifest["content"] != whole:
        raise Corrupt(
            f"{path} was made again, but its content is not what it was: this machine or this torch computes other last bits. "
            "What was fitted to it before is of the old content."
        )
    return [MANIFEST, *(name for name in manifest["files"] if name not in {entry["file"] for entry in standing.values()})]


def _standing(path: Path) -> dict[int, dict]:
    """The entries of all units whose files are what their names say. Damaged ones are set aside."""
    found: dict[int, list[dict]] = {}
    for file in sorted(path.glob("unit-*.safetensors")):
        parts = re.fullmatch(r"unit-(\d{6,})-([0-9a-f]{8})\.safetensors", file.name)
        if parts is None or not (digest := files.hash_file(file)).startswith(parts[2]):
            files.set_aside(file)
            continue
        tensors = files.read_tensors(file, digest)
        first, names = json.loads(tensors["names"].numpy().tobytes())
        entry, _ = named(int(parts[1]), measured(tensors, first, first + len(names)), tensors)
        if entry["file"] == file.name:
            found.setdefault(int(parts[1]), []).append(entry)
    return {number: entries[0] for number, entries in found.items() if len(entries) == 1}
