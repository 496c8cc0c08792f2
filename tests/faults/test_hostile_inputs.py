"""Artifacts, stores and texts made by somebody else: what would leave a folder, hang or fill the memory is refused by name.

Each attack has its control: the same thing without it opens. Models' folders stand in tests/subjects/test_hostile_models.py.
"""

import gzip
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from actscope.core import artifact, files
from actscope.core.change import Change
from actscope.core.errors import ActscopeError, BadInput, Corrupt, EmptyCorpus
from actscope.core.intervention import Add
from actscope.core.site import Site
from actscope.corpora._parts import lines
from actscope.corpora.files import files as text_files
from actscope.corpora.parquet import parquet
from actscope.dictionaries.topk import TopK

NAMES = [
    "../outside/t.safetensors", "/etc/passwd", "..", "a\\..\\b", "a\0b", "x" * 300, "sub/../../outside/t.safetensors", "",
    "link.safetensors", "~/../../etc/passwd", "C:\\x",
]  # fmt: skip


@pytest.fixture
def saved(tmp_path) -> Path:
    path = tmp_path / "saved"
    artifact.save(Change(interventions=(Add(Site("mlp_out", 0), torch.ones(3)),)), path)
    (tmp_path / "outside").mkdir()
    shutil.copy(next(path.glob("*.safetensors")), tmp_path / "outside" / "t.safetensors")
    (path / "link.safetensors").symlink_to(tmp_path / "outside" / "t.safetensors")
    return path


def resealed(path: Path, **values) -> None:
    """The manifest with other values and a content hash that fits: made by one who knows the format."""
    manifest = json.loads((path / "manifest.json").read_text()) | values
    manifest["content"] = artifact.content_hash(manifest)
    (path / "manifest.json").write_bytes(files.json_bytes(manifest))


def test_the_controls_open(saved):
    resealed(saved)
    assert isinstance(artifact.open(saved), Change) and artifact.damaged(saved) == {}


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_an_artifact_names_no_file_outside_its_folder(saved, name: str):
    digest = next(iter(json.loads((saved / "manifest.json").read_text())["files"].values()))
    resealed(saved, files={name: digest})
    for use in (artifact.open, artifact.damaged):
        with pytest.raises((BadInput, Corrupt)):
            use(saved)


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_a_sweep_names_no_member_outside_its_folder(saved, name: str):
    resealed(saved, kind="sweep", members=[name])
    with pytest.raises((BadInput, Corrupt)):
        artifact.open(saved)


@pytest.mark.parametrize(
    "manifest",
    [
        b"", b"[]", b"{", b"[" * 100_000, b'{"a":' * 50_000, b"\xff", b"null", b"{}", b'{"format": "1"}', b'{"format": 1e999}',
        b'{"content": 7, "format": 1}', b"9" * 10_000,
    ],
    ids=lambda data: repr(data[:12]),
)  # fmt: skip
def test_a_manifest_that_is_none_is_refused(saved, manifest: bytes):
    (saved / "manifest.json").write_bytes(manifest)
    with pytest.raises((BadInput, Corrupt)):
        artifact.open(saved)


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "values", "value": {"$value": "os.system", "command": "true"}},
        {"kind": "values", "value": {"$value": "__import__"}},
        {"kind": "values", "value": {"$value": "Path"}},
        {"kind": "values", "value": {"$tensor": "nothing"}},
        {"kind": "values", "value": {"$value": "Add", "surprise": 1}},
        {"kind": "values", "value": {"$map": 7}},
        {"kind": "values", "files": 7},
        {"kind": "values", "files": {"t.safetensors": 7}},
        {"kind": "dictionary", "method": "os.system"},
        {"kind": "dictionary", "method": "../../../evil"},
        {"kind": "dictionary", "method": "_parts.select_topk"},
        {"kind": "dictionary", "method": "topk", "reads": 7, "writes": [], "n_latents": 1, "settings": {}, "subject": ""},
        {"kind": "nothing that is"},
        {"kind": 7},
        {"kind": "store"},
    ],
    ids=str,
)
def test_a_manifest_that_asks_for_what_is_not_there_is_refused(saved, values: dict):
    resealed(saved, **values)
    with pytest.raises(ActscopeError):
        artifact.open(saved)


def test_a_sweep_that_holds_itself_is_refused(saved):
    resealed(saved, kind="sweep", members=["."])
    with pytest.raises(Corrupt, match="names itself"):
        artifact.open(saved)


def test_a_dictionary_that_asks_for_more_than_it_holds_is_refused_before_memory_is_taken(tmp_path):
    site = "layers.0.mlp_out"
    artifact.save(TopK(reads={site: 4}, n_latents=8, k=2), tmp_path / "sae")
    resealed(tmp_path / "sae")
    assert isinstance(artifact.open(tmp_path / "sae"), TopK)
    for values in ({"n_latents": 10**13}, {"reads": [[site, 10**13]]}, {"n_latents": -1}, {"n_latents": "8"}):
        original = (tmp_path / "sae" / "manifest.json").read_bytes()
        resealed(tmp_path / "sae", **values)
        with pytest.raises(ActscopeError):
            artifact.open(tmp_path / "sae")
        (tmp_path / "sae" / "manifest.json").write_bytes(original)


@pytest.mark.parametrize("file", ["manifest.json", "*.safetensors"])
def test_a_pipe_in_an_artifact_does_not_hang(saved, file: str):
    path = next(one for one in saved.glob(file) if not one.is_symlink())
    path.unlink()
    os.mkfifo(path)
    with pytest.raises((BadInput, Corrupt)):
        artifact.open(saved)


def test_an_enormous_manifest_is_refused_unread(saved):
    os.truncate(saved / "manifest.json", 1 << 40)
    with pytest.raises(Corrupt, match="bytes"):
        artifact.open(saved)


def test_a_line_that_never_ends_is_refused_while_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "LONGEST_LINE", 1000)
    good = json.dumps({"text": "a" * 900}).encode() + b"\n"
    for name, write in (("a.jsonl", lambda data: data), ("b.jsonl.gz", gzip.compress)):
        (tmp_path / name).write_bytes(write(good))
        assert len(list(text_files(tmp_path / name).documents())) == 1
        (tmp_path / name).write_bytes(write(good + b'{"text": "' + b"a" * 10**6))
        with pytest.raises(BadInput, match="line 2 is longer than 1,000 bytes"):
            text_files(tmp_path / name)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(good)[:-9])
    with pytest.raises(BadInput, match="cannot be read"):
        text_files(tmp_path / "b.jsonl.gz")


@pytest.fixture
def texts(tmp_path) -> Path:
    folder = tmp_path / "texts"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "sub" / "b.txt").write_text("b")
    (tmp_path / "secret.txt").write_text("secret")
    return folder


def test_links_of_a_folder_stay_inside_it(texts):
    (texts / "c.txt").symlink_to("a.txt")
    assert [document.text for document in text_files(texts).documents()] == ["a", "a", "b"]
    (texts / "d.txt").symlink_to("../secret.txt")
    with pytest.raises(BadInput, match=r"d\.txt leads out of"):
        text_files(texts)


def test_a_folder_that_is_linked_into_itself_is_read_once(texts):
    (texts / "sub" / "again").symlink_to(texts)
    (texts / "loop.txt").symlink_to("loop.txt")
    assert [document.text for document in text_files(texts).documents()] == ["a", "b"]


@pytest.mark.parametrize("name", ["pipe.txt", "pipe.jsonl", "pipe.parquet"])
def test_a_pipe_among_texts_does_not_hang(texts, name: str):
    os.mkfifo(texts / name)
    read = parquet if name.endswith("parquet") else text_files
    with pytest.raises(BadInput, match="pipe, a socket or a device"):
        read(texts / name)
    if read is text_files:
        assert len(list(read(texts).documents())) == 2
    else:
        with pytest.raises(EmptyCorpus):
            read(texts)


@pytest.mark.parametrize("name", [*NAMES, "a/../../b"], ids=repr)
def test_a_name_from_data_stays_inside(tmp_path, name: str):
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link.safetensors").symlink_to("/etc")
    with pytest.raises(BadInput, match="leaves the folder"):
        files.safe_join(tmp_path / "inside", name)
    assert files.safe_join(tmp_path / "inside", "sub/file") == tmp_path.resolve() / "inside" / "sub" / "file"
