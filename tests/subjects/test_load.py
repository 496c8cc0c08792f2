"""What is opened, and what is refused before any of it runs."""

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

from actscope.core.errors import BadInput, Corrupt, NotAModel, NotFinite
from actscope.core.files import write_tensors
from actscope.subjects.load import load


def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def edit(path: Path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_folder_opens_as_it_was_saved(folder):
    subject = load(folder)
    assert subject.name == folder.name and subject.context == 48
    stored = safetensors.torch.load_file(folder / "model.safetensors")
    assert {name.replace("embed_out", "lm_head") for name in stored} == set(subject.weights())
    assert all(torch.equal(subject.weights()[name.replace("embed_out", "lm_head")], tensor) for name, tensor in stored.items())
    assert not any(parameter.requires_grad for parameter in subject.model.parameters())
    assert subject.prepare(["the cat"]).ids[0, 0] == 0, "the tokenizer's own post-processor puts the first token"
    assert load(str(folder)).fingerprint == subject.fingerprint


def test_types_are_converted(folder):
    assert {tensor.dtype for tensor in load(folder, dtype="bfloat16").weights().values()} == {torch.bfloat16}
    half = load(folder, dtype="float16")
    assert half.fingerprint != load(folder).fingerprint


def test_every_site_in_half_precision(folder):
    subject = load(folder, dtype="bfloat16")
    acts = subject.run(torch.arange(6)[None], read=subject.order).acts
    assert {value.dtype for value in acts.values()} == {torch.bfloat16}


def test_a_folder_without_a_tokenizer_loads(folder, tmp_path):
    path = copied(folder, tmp_path)
    (path / "tokenizer.json").unlink()
    subject = load(path)
    assert subject.run(torch.arange(6)[None]).logits.shape == (1, 6, 300)
    with pytest.raises(BadInput, match="no tokenizer"):
        subject.prepare(["text"])


@pytest.mark.parametrize(
    ("name", "says"),
    [("./nothing/here", "no folder"), ("/nothing/at/all", "no folder"), ("no/such/id", "no folder"), ("", "no folder")],
)
def test_no_folder(name: str, says: str):
    with pytest.raises(NotAModel, match=says):
        load(name)


def test_a_hub_id_without_network_says_so():
    with pytest.raises(NotAModel, match="hub id"):
        load("actscope-tests/no-such-model")
    with pytest.raises(NotAModel, match="did you mean pocket"):
        load("pokcet")


def test_a_file_or_an_empty_folder_is_no_model(tmp_path):
    (tmp_path / "model.txt").write_text("hello")
    with pytest.raises(NotAModel, match="is a file"):
        load(tmp_path / "model.txt")
    with pytest.raises(NotAModel, match=r"no config\.json"):
        load(tmp_path)


def test_another_family_is_named_with_those_that_are_read(folder, tmp_path):
    path = copied(folder, tmp_path)
    edit(path / "config.json", model_type="wav2vec2", architectures=None)
    with pytest.raises(NotAModel, match=r"'wav2vec2'.*gpt_neox"):
        load(path)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_that_comes_with_a_model_is_refused(folder, tmp_path, file: str):
    path = copied(folder, tmp_path)
    edit(path / file, auto_map={"AutoModelForCausalLM": "evil.Model"})
    (path / "evil.py").write_text("raise SystemExit('this must not run')")
    with pytest.raises(NotAModel, match="auto_map"):
        load(path)


def test_pickled_weights_are_refused(folder, tmp_path):
    path = copied(folder, tmp_path)
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    with pytest.raises(NotAModel, match="pickle"):
        load(path)
    (path / "pytorch_model.bin").unlink()
    with pytest.raises(NotAModel, match="no weights"):
        load(path)


@pytest.mark.parametrize("name", ["../other/model.safetensors", "/etc/passwd", "a\\b", "..", "", "sub/model.safetensors", 7])
def test_an_index_that_leaves_the_folder_is_refused(folder, tmp_path, name):
    path = copied(folder, tmp_path)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": name}}))
    with pytest.raises(NotAModel, match="plain file names"):
        load(path)


def test_an_index_that_names_a_missing_file_is_refused(folder, tmp_path):
    path = copied(folder, tmp_path)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": "model-2.safetensors"}}))
    with pytest.raises(NotAModel, match="model-2"):
        load(path)


def test_sharded_weights_open(folder, tmp_path):
    path = copied(folder, tmp_path)
    stored = safetensors.torch.load_file(path / "model.safetensors")
    (path / "model.safetensors").unlink()
    names = sorted(stored)
    where = {name: f"model-{index % 2}.safetensors" for index, name in enumerate(names)}
    for file in set(where.values()):
        part = {name: stored[name] for name in names if where[name] == file}
        write_tensors(path / file, part)
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    assert load(path).fingerprint == load(folder).fingerprint


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(folder, tmp_path, value: float):
    path = copied(folder, tmp_path)
    stored = safetensors.torch.load_file(path / "model.safetensors")
    stored["gpt_neox.layers.1.mlp.dense_h_to_4h.weight"][3, 4] = value
    write_tensors(path / "model.safetensors", stored)
    with pytest.raises(NotFinite, match=r"gpt_neox\.layers\.1\.mlp\.dense_h_to_4h\.weight"):
        load(path)


def test_weights_that_lack_a_tensor_are_refused(folder, tmp_path):
    path = copied(folder, tmp_path)
    stored = safetensors.torch.load_file(path / "model.safetensors")
    del stored["gpt_neox.final_layer_norm.bias"]
    write_tensors(path / "model.safetensors", stored)
    with pytest.raises(NotAModel, match=r"final_layer_norm\.bias"):
        load(path)


def test_weights_of_another_shape_are_refused(folder, tmp_path):
    path = copied(folder, tmp_path)
    edit(path / "config.json", intermediate_size=71)
    with pytest.raises(NotAModel, match="copy"):
        load(path)


@pytest.mark.parametrize(
    ("file", "error"),
    [("config.json", Corrupt), ("tokenizer.json", NotAModel), ("model.safetensors", NotAModel)],
)
def test_a_broken_file_is_named(folder, tmp_path, file: str, error: type):
    path = copied(folder, tmp_path)
    (path / file).write_bytes(b"{ not what it should be")
    with pytest.raises(error, match="copy"):
        load(path)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"dtype": "float31"}, "float32"),
        ({"device": "toaster"}, "toaster"),
        ({"device": "cuda:99"}, "cuda:99"),
        ({"revision": "main"}, "hub id"),
    ],
)
def test_settings_that_cannot_be_are_refused(folder, settings: dict, says: str):
    with pytest.raises(BadInput, match=says):
        load(folder, **settings)


def test_checkpoints_of_a_built_in_model(folder, tmp_path, monkeypatch):
    """A step's weights with the base model's config and tokenizer."""
    base = Path(shutil.copytree(folder, tmp_path / "organisms" / "weights" / "pocket-mini"))
    stored = safetensors.torch.load_file(folder / "model.safetensors")
    (base / "step-000128").mkdir()
    early = {name: tensor * 0.5 for name, tensor in stored.items()}
    write_tensors(base / "step-000128" / "model.safetensors", early)
    monkeypatch.setattr("actscope.subjects.load.package_files", lambda _: tmp_path)
    assert load("pocket-mini").fingerprint == load(folder).fingerprint
    subject = load("pocket-mini@128")
    assert subject.name == "pocket-mini@128" and subject.prepare(["the cat"]).ids[0, 0] == 0
    name = "gpt_neox.layers.0.mlp.dense_h_to_4h.weight"
    assert torch.equal(subject.weights()[name], stored[name] * 0.5)
    with pytest.raises(NotAModel, match="steps 128"):
        load("pocket-mini@64")
    with pytest.raises(NotAModel, match="not in this installation"):
        load("pocket")
