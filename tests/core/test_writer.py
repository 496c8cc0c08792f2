"""The one writer: whole or not at all, with the umask's mode, durable in order, and honest about a failing disk."""

import errno
import json
import os
import stat
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from actscope.core import files
from actscope.core.errors import BadInput, Corrupt, DiskFull


@pytest.mark.parametrize("mask, mode", [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_the_mode_is_the_umasks(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        files.write_tensors(tmp_path / "x.safetensors", {"a": torch.ones(3)})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.safetensors").stat().st_mode) == mode


def test_the_file_is_synced_before_it_is_named_and_the_folder_after(tmp_path, monkeypatch):
    calls = []

    def noted(name):
        real = getattr(os, name)

        def call(*given):
            kind = "folder" if name == "fsync" and stat.S_ISDIR(os.fstat(given[0]).st_mode) else "file"
            calls.append(f"{name} {kind}" if name == "fsync" else name)
            return real(*given)

        return call

    for name in ("fsync", "replace", "write"):
        monkeypatch.setattr(os, name, noted(name))
    files.write_text(tmp_path / "x", "text")
    assert calls == ["write", "fsync file", "replace", "fsync folder"]


def test_saving_over_the_file_that_was_read(tmp_path):
    path = tmp_path / "x.safetensors"
    files.write_tensors(path, {"a": torch.arange(5.0)})
    read = files.read_tensors(path)
    files.write_tensors(path, {"a": read["a"] * 2})
    assert files.read_tensors(path)["a"].tolist() == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room_keeps_what_stood_there(tmp_path, monkeypatch, code):
    files.write_text(tmp_path / "x", "before")
    real = os.write

    def short(descriptor, data):
        if len(data) < 5:
            raise OSError(code, os.strerror(code))
        return real(descriptor, data[: len(data) // 2])  # a short write first, as a full disk gives

    monkeypatch.setattr(os, "write", short)
    with pytest.raises(DiskFull, match="No room to write x .* intact; free some space") as caught:
        files.write_text(tmp_path / "x", "a longer text")
    assert caught.value.exit_code == 5
    monkeypatch.undo()
    assert (tmp_path / "x").read_text() == "before" and os.listdir(tmp_path) == ["x"]


def test_short_writes_are_carried_on(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:3]))
    files.write_text(tmp_path / "x", "a text in many parts")
    assert (tmp_path / "x").read_text() == "a text in many parts"


def test_a_sync_that_fails_publishes_nothing(tmp_path, monkeypatch):
    def fails(descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    files.write_text(tmp_path / "x", "before")
    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(BadInput, match="Cannot write"):
        files.write_text(tmp_path / "x", "after")
    assert (tmp_path / "x").read_text() == "before" and os.listdir(tmp_path) == ["x"]


def test_a_disk_that_gives_back_other_bytes_is_found(tmp_path, monkeypatch):
    files.write_text(tmp_path / "x", "before")
    monkeypatch.setattr(files, "hash_file", lambda path: "0" * 64)
    with pytest.raises(Corrupt, match="read back differently"):
        files.write_text(tmp_path / "x", "after")
    assert (tmp_path / "x").read_text() == "before" and os.listdir(tmp_path) == ["x"]


def test_a_folder_that_is_a_file_is_said(tmp_path):
    files.write_text(tmp_path / "x", "text")
    with pytest.raises(BadInput, match="Cannot write .*--out"):
        files.write_text(tmp_path / "x" / "y", "text")


def test_create_never_replaces(tmp_path):
    assert files.create(tmp_path / "x", b"first") and not files.create(tmp_path / "x", b"second")
    assert (tmp_path / "x").read_bytes() == b"first" and os.listdir(tmp_path) == ["x"]


def test_what_is_set_aside_is_kept(tmp_path):
    files.write_text(tmp_path / "x", "damaged")
    aside = files.set_aside(tmp_path / "x")
    assert aside.read_text() == "damaged" and aside.name.startswith(".corrupt-x") and not (tmp_path / "x").exists()


WORDS = st.text(st.characters(codec="utf-8"), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=10,
)


@given(VALUES)
@settings(deadline=None, max_examples=50)
def test_json_comes_back_and_equal_values_have_equal_bytes(tmp_path_factory, value):
    folder = tmp_path_factory.mktemp("json")
    one = files.write_json(folder / "a", {"value": value})
    assert files.read_json(folder / "a") == {"value": value}
    assert files.write_json(folder / "b", json.loads((folder / "a").read_text())) == one


def test_numbers_that_are_none_are_refused_in_json(tmp_path):
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "x", {"value": float("nan")})
    assert not os.listdir(tmp_path)


BAD_JSON = [b"", b"{", b"[]", b"3", b'{"a": "\xff"}', b"[" * 200_000, b'{"a": 1} x', b'{"a": ' * 100_000]


@pytest.mark.parametrize("data", BAD_JSON, ids=range(len(BAD_JSON)))
def test_json_that_is_none_is_said(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(Corrupt, match="x "):
        files.read_json(tmp_path / "x")


def test_json_beyond_the_limit_is_not_even_read(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"{}")
    monkeypatch.setattr(files, "_MAX_JSON", 1)
    with pytest.raises(Corrupt, match="at most 1"):
        files.read_json(tmp_path / "x")


def header(value: object, size: int | None = None, tail: bytes = b"\0" * 64) -> bytes:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return struct.pack("<Q", len(data) if size is None else size) + data + tail


def entry(dtype="F32", shape=(4,), offsets=(0, 16)) -> dict:
    return {"a": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}}


HOSTILE = {
    "empty": b"",
    "no header": b"\1\2\3",
    "huge length": header(b"{}", 2**63),
    "length beyond": header(b"{}", 1000),
    "not json": header(b"{not json"),
    "not an object": header([1, 2]),
    "negative": header(entry(offsets=(-4, 16))),
    "backwards": header(entry(offsets=(16, 0))),
    "beyond the end": header(entry(offsets=(0, 10**6))),
    "overflow": header(entry(shape=(2**40, 2**40))),
    "shape and size differ": header(entry(shape=(5,))),
    "unknown dtype": header(entry(dtype="X99")),
    "deep": header(b"[" * 50_000),
    "not utf-8": header(b'{"\xff": 1}'),
    "overlap": header(entry() | {"b": entry(offsets=(8, 24))["a"]}),
    "a hole": header(entry() | {"b": entry(offsets=(32, 48))["a"]}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_tensor_file_is_refused(tmp_path, name):
    (tmp_path / "x").write_bytes(HOSTILE[name])
    with pytest.raises(Corrupt, match="x is not a readable safetensors file"):
        files.read_tensors(tmp_path / "x")


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=100)
def test_any_bytes_are_tensors_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("fuzz") / "x"
    path.write_bytes(header(data[:100], tail=data[100:]))
    try:
        assert isinstance(files.read_tensors(path), dict)
    except Corrupt as error:
        assert "x is not a readable" in str(error)


@pytest.mark.parametrize(
    "name", ["", "..", "../x", "/etc/passwd", "a/../../x", "a\\b", "x\0y", "out", "out/x", "x" * 300, "a/" + "\u00e9" * 200]
)
def test_names_that_leave_the_folder_are_refused(tmp_path, name):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "out").symlink_to(tmp_path)
    with pytest.raises(BadInput, match="leaves the folder"):
        files.safe_join(tmp_path / "in", name)


@given(st.text(max_size=30))
@settings(deadline=None, max_examples=200)
def test_a_joined_name_is_always_inside(tmp_path_factory, name):
    root = tmp_path_factory.getbasetemp()
    try:
        path = files.safe_join(root, name)
    except BadInput:
        return
    assert path == root.resolve() or root.resolve() in path.parents
