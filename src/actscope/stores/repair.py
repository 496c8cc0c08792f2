"""Making a store's damaged files again."""

from pathlib import Path

from actscope.core import artifact, files, lock
from actscope.core.corpus import Corpus
from actscope.core.errors import BadInput, Corrupt, WrongSubject
from actscope.core.progress import Progress, quiet
from actscope.core.subject import Subject
from actscope.stores._parts.manifest import described, measured, named
from actscope.stores._parts.pieces import planned
from actscope.stores._parts.running import run_unit, threads_of

__all__ = ["repair"]


def repair(path: Path | str, subject: Subject, corpus: Corpus, *, progress: Progress = quiet) -> list[str]:
    """Capture again only the units whose files are damaged or missing; returns their names. What was damaged is set aside
    under `.corrupt-...`, and a file is replaced only by one with the hash that the manifest gives.

    Raises BadInput for no store or another text, WrongSubject, Corrupt when this machine computes other bytes.
    """
    path = Path(path)
    manifest = artifact.read_manifest(path)
    if manifest["kind"] != "store":
        raise BadInput(
            f"{path} holds a saved {manifest['kind']}; only stores are repaired. Run the command that made it again."
        )
    settings = manifest["settings"]
    if settings["subjects"].get("") != subject.fingerprint:
        raise WrongSubject(f"{path} was captured from another model than {subject.name}; give the one it was captured from.")
    if settings["corpus"] != corpus.fingerprint:
        raise BadInput(f"{path} was captured from another text than {corpus.name}; give the same text, unchanged.")
    sites = [port.site for port in described(settings)[0]]
    with lock.hold(path), threads_of(settings["threads"]):
        wrong = artifact.damaged(path)
        for done, name in enumerate(wrong):
            progress(done, len(wrong), name)
            number = next(number for number, unit in enumerate(manifest["units"]) if unit["file"] == name)
            first = manifest["units"][number]["documents"][0]
            unit = next(planned(subject, corpus, first, settings["context"], settings["unit"]))
            tensors = run_unit(subject, unit, sites, settings)
            entry, data = named(number, measured(tensors, unit.first, unit.next), tensors)
            if entry["file"] != name or entry["sha256"] != manifest["files"][name]:
                raise Corrupt(
                    f"{name} cannot be made again here: this machine or this torch computes other last bits. "
                    "Capture again into another folder."
                )
            if (path / name).exists():
                files.set_aside(path / name)
            files.write_bytes(path / name, data)
    progress(len(wrong), len(wrong), "files")
    return list(wrong)
