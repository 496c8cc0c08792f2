"""A store with a damaged file: it is always found, named with the command to type, and repaired to the byte.

A bit of `about.json` is another matter: the manifest does not name that file, nobody reads it but `repair`, and a flip there is
harmless by definition, unless the manifest is damaged as well, which is then said.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
from pathlib import Path

import capture_child
import pytest
from tests.training._together import Run

from actscope.cli import main
from actscope.core import artifact
from actscope.core.errors import ActscopeError, Corrupt, DiskFull
from actscope.corpora.texts import texts
from actscope.stores.disk import DiskStore
from actscope.stores.repair import repair


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A finished store of some fifteen files."""
    out = tmp_path_factory.mktemp("whole") / "s"
    capture_child.capture(out)
    return out


def named(store: Path) -> list[str]:
    return ["manifest.json", *sorted(artifact.read_manifest(store)["files"])]


def files_of(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.iterdir() if not path.name.startswith(".")} | {"about.json": b""}


def damaged_copy(whole: Path, out: Path, name: str, data: bytes) -> Path:
    shutil.copytree(whole, out)
    (out / name).write_bytes(data)
    return out


def read_all(store: Path) -> int:
    opened = DiskStore(store)
    return sum(len(batch) for batch in opened.batches(opened.ports, 512))


def found_and_repaired(store: Path, whole: Path, name: str, capsys) -> None:
    """Reading and `actscope verify` both name the file and the command; `repair` makes it again, and nothing else."""
    with pytest.raises(Corrupt) as met:
        read_all(store)
    assert name in str(met.value) and "actscope repair" in str(met.value)
    assert main(["verify", str(store)]) == 6
    said = capsys.readouterr().err.replace("\n", " ")
    assert name in said and "actscope repair" in said
    times = {path.name: path.stat().st_mtime_ns for path in store.glob("unit-*")}
    subject, corpus = capture_child.TinySubject(), texts(capture_child.LISTED)
    assert repair(store, subject, corpus) == [name]
    assert files_of(store) == files_of(whole)
    assert {path.name for path in store.glob("unit-*") if path.stat().st_mtime_ns != times.get(path.name)} <= {name}
    assert main(["verify", str(store)]) == 0 and read_all(store)
    assert len(list(store.glob(f".corrupt-{name}-*"))) == 1, "what was damaged is kept"


def flipped(whole: Path, tmp_path: Path, seed: int, capsys) -> None:
    draw = random.Random(seed)
    name = "manifest.json" if seed % 2 else draw.choice(named(whole)[1:])
    data = bytearray((whole / name).read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    found_and_repaired(damaged_copy(whole, tmp_path / "s", name, bytes(data)), whole, name, capsys)


@pytest.mark.parametrize("seed", range(20))
def test_a_flipped_bit_is_found_and_repaired(whole, tmp_path, seed, capsys):
    flipped(whole, tmp_path, seed, capsys)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(20, 200))
def test_a_flipped_bit_in_many_more_places_is_found_and_repaired(whole, tmp_path, seed, capsys):
    flipped(whole, tmp_path, seed, capsys)


def cut(whole: Path, tmp_path: Path, number: int, share: float, capsys) -> None:
    name = named(whole)[number]
    data = (whole / name).read_bytes()
    kept = data[: min(int(share * len(data)), len(data) - 1)]
    found_and_repaired(damaged_copy(whole, tmp_path / "s", name, kept), whole, name, capsys)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 1.0])
def test_a_file_cut_short_is_found_and_repaired(whole, tmp_path, number, share, capsys):
    cut(whole, tmp_path, number, share, capsys)


@pytest.mark.full
@pytest.mark.parametrize("number", [0, 3])
@pytest.mark.parametrize("share", [number / 100 for number in range(1, 100)])
def test_a_file_cut_at_many_more_lengths_is_found_and_repaired(whole, tmp_path, number, share, capsys):
    cut(whole, tmp_path, number, share, capsys)


@pytest.mark.parametrize("number", [0, 2])
def test_a_missing_file_is_made_again(whole, tmp_path, number):
    store = tmp_path / "s"
    shutil.copytree(whole, store)
    name = named(whole)[number]
    (store / name).unlink()
    with pytest.raises(ActscopeError, match=name):
        read_all(store)
    assert repair(store, capture_child.TinySubject(), texts(capture_child.LISTED)) == [name]
    assert files_of(store) == files_of(whole)


def test_a_manifest_and_two_of_its_files_are_made_again_together(whole, tmp_path):
    store = tmp_path / "s"
    shutil.copytree(whole, store)
    gone = [named(whole)[2], named(whole)[5]]
    for name in ["manifest.json", *gone]:
        (store / name).write_bytes((store / name).read_bytes()[:-1])
    assert repair(store, capture_child.TinySubject(), texts(capture_child.LISTED)) == ["manifest.json", *gone]
    assert files_of(store) == files_of(whole)


def test_a_flipped_bit_in_the_side_file_harms_nothing_unless_the_manifest_is_damaged_too(whole, tmp_path, capsys):
    store = tmp_path / "s"
    shutil.copytree(whole, store)
    data = bytearray((store / "about.json").read_bytes())
    data[data.index(b'"settings"') + 3] ^= 1
    (store / "about.json").write_bytes(data)
    assert main(["verify", str(store)]) == 0 and read_all(store)
    (store / "manifest.json").write_bytes(b"{")
    with pytest.raises(Corrupt, match="capture again into another folder"):
        repair(store, capture_child.TinySubject(), texts(capture_child.LISTED))


def test_the_damaged_manifest_of_an_unfinished_capture_is_made_again_and_the_command_goes_on(whole, tmp_path, monkeypatch):
    store = tmp_path / "s"
    monkeypatch.setenv("ACTSCOPE_FAULT", "file.written:full:30")
    monkeypatch.setattr("actscope.core.files._hits", {})
    with pytest.raises(DiskFull):
        capture_child.capture(store)
    monkeypatch.delenv("ACTSCOPE_FAULT")
    (store / "manifest.json").write_bytes((store / "manifest.json").read_bytes()[:-40])
    before = {path: path.stat().st_mtime_ns for path in store.glob("unit-*")}
    with pytest.raises(Corrupt, match="actscope repair"):
        capture_child.capture(store)
    assert repair(store, capture_child.TinySubject(), texts(capture_child.LISTED)) == ["manifest.json"]
    assert not artifact.read_manifest(store)["complete"]
    assert capture_child.capture(store)[0].content == artifact.read_manifest(whole)["content"]
    assert len(before) > 5 and all(path.stat().st_mtime_ns == time for path, time in before.items())


def test_repair_of_a_manifest_refuses_another_model(whole, tmp_path):
    store = damaged_copy(whole, tmp_path / "s", "manifest.json", b"{}")
    with pytest.raises(ActscopeError, match="another model"):
        repair(store, capture_child.TinySubject(seed=1), texts(capture_child.LISTED))
    assert not list(store.glob(".corrupt-*")), "nothing is touched before the model is known to be the one"


@pytest.fixture
def small_disk(tmp_path):
    """A folder with room for about half a store, and a way to give it more."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(*options: str) -> bool:
        words = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(place)]
        return (
            os.geteuid() == 0
            and shutil.which("mount") is not None
            and not subprocess.run(words, capture_output=True).returncode
        )

    if not mount("size=600k"):
        pytest.skip("a small disk is mounted by root alone; test_a_full_disk_keeps_what_is_committed injects the same error")
    yield place, lambda: mount("remount", "size=16m")
    subprocess.run(["umount", "-l", str(place)], check=True)


def capture_on(out: Path) -> None:
    """A process's capture, and its error's exit code."""
    try:
        capture_child.capture(out)
    except ActscopeError as error:
        os._exit(error.exit_code)


@pytest.mark.parametrize("size", [1, 2])
def test_a_disk_that_is_really_full(small_disk, whole, size):
    """Mid-shard, by one process and by two: exit code 5, what was committed stands; with more room the same store."""
    place, enlarge = small_disk
    assert Run(size, capture_on, place / "s").codes(60) == [5] * size
    manifest = artifact.read_manifest(place / "s")
    assert not manifest["complete"] and not artifact.damaged(place / "s")
    stood = {name: (place / "s" / name).stat().st_mtime_ns for name in capture_child.standing(place / "s")}
    assert not list((place / "s").glob(".*.tmp-*")), "a temporary file takes room"
    assert stood
    with pytest.raises(DiskFull, match="free some space and run the same command again"):
        capture_child.capture(place / "s")
    assert enlarge()
    store, _ = capture_child.capture(place / "s")
    assert store.content == artifact.read_manifest(whole)["content"]
    assert all((place / "s" / name).stat().st_mtime_ns == time for name, time in stood.items())


def test_a_process_is_killed_while_it_repairs(whole, tmp_path):
    """Repair again: it goes on from whatever stands."""
    store = tmp_path / "s"
    shutil.copytree(whole, store)
    for name in ("manifest.json", named(whole)[2], named(whole)[5]):
        (store / name).write_bytes((store / name).read_bytes()[:-1])
    child = Run(1, _repairing, store, faults={0: "file.renamed:kill:5"})
    assert child.codes(60) == [-signal.SIGKILL]
    with contextlib.suppress(Corrupt):
        assert artifact.damaged(store) or not artifact.read_manifest(store)["complete"]
    repair(store, capture_child.TinySubject(), texts(capture_child.LISTED))
    store_now, _ = capture_child.capture(store)
    assert store_now.content == artifact.read_manifest(whole)["content"] and not artifact.damaged(store)


def _repairing(store: Path) -> None:
    repair(store, capture_child.TinySubject(), texts(capture_child.LISTED))
