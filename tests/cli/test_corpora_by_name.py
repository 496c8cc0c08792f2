"""Texts by name on the command line: what each word opens, and that no name of a file can play with the terminal."""

import json
from types import SimpleNamespace

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from actscope.cli import main
from actscope.cli._corpus import corpus_named
from actscope.core.errors import BadInput, UsageError
from actscope.corpora.texts import texts


def table(path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a b c", "d"], "body": ["e", "f"]}), path)


def test_files_folders_and_columns(tmp_path):
    table(tmp_path / "a.parquet")
    for name in (tmp_path / "a.parquet", tmp_path):
        assert [document.text for document in corpus_named(str(name), column="body").documents()] == ["e", "f"]
    (tmp_path / "b.txt").write_text("text")
    with pytest.raises(BadInput, match="holds Parquet and text"):
        corpus_named(str(tmp_path))
    assert [document.text for document in corpus_named(str(tmp_path / "b.txt")).documents()] == ["text"]


def test_a_dataset_of_the_hub_is_named_in_one_word(monkeypatch):
    asked = []
    monkeypatch.setattr("actscope.corpora.datasets.datasets", lambda id, **given: asked.append((id, given)) or texts(["a"]))
    corpus_named("hf:org/name")
    corpus_named("hf:org/name:en@v2", split="test", column="body")
    assert [id for id, _ in asked] == ["org/name", "org/name"]
    assert asked[0][1] == {"column": "text", "split": None, "config": None, "revision": None, "render": None}
    assert asked[1][1] == {"column": "body", "split": "test", "config": "en", "revision": "v2", "render": None}
    with pytest.raises(UsageError, match="--split belongs"):
        corpus_named("grammar", split="test")


def test_dialogues_are_written_by_the_models_template(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": [{"role": "user", "content": "Hi"}]}))
    model = SimpleNamespace(render=lambda messages: f"<{messages[0]['content']}>")
    corpus = corpus_named(str(tmp_path), subject=lambda: model)
    assert [document.text for document in corpus.documents()] == ["<Hi>"]


def test_images_are_prepared_as_the_models_folder_says(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    model = SimpleNamespace(preprocessing={"size": 4, "mean": (0.5,) * 3, "std": (0.5,) * 3})
    (found,) = corpus_named(str(tmp_path), subject=lambda: model).documents()
    assert found.image.shape == (3, 4, 4) and float(found.image.max()) == -1.0
    model.preprocessing = None
    for subject in (None, lambda: model):
        with pytest.raises(BadInput, match="no model says how"):
            corpus_named(str(tmp_path / "a.png"), subject=subject)


def test_a_name_cannot_recolour_or_move_the_terminal(tmp_path, capsys):
    (tmp_path / "\x1b[2Jevil\u202e.jsonl").write_text("{")
    assert main(["capture", "pocket", str(tmp_path), "--site", "embed", "--dry-run"]) == 3
    printed = capsys.readouterr().err
    assert "\x1b" not in printed and "\u202e" not in printed and r"\x1b[2Jevil\u202e" in printed
