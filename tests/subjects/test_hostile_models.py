"""A model's folder made by somebody else: each trick is refused with its name, before what it points to is opened.

Every attack has its control: the same folder without it opens.
"""

import contextlib
import json
import os
import re
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch

from actscope.core.errors import ActscopeError, Corrupt, NotAModel
from actscope.core.files import write_tensors
from actscope.subjects.load import load

OPENED: list[str] = []
WATCHING = False


def _hear(event: str, args: tuple) -> None:
    if WATCHING and event == "open" and isinstance(args[0], str | bytes | os.PathLike):
        OPENED.append(os.fsdecode(args[0]))


sys.addaudithook(_hear)


@contextlib.contextmanager
def opened() -> Iterator[list[str]]:
    """The paths that Python opens inside."""
    global WATCHING
    OPENED.clear()
    WATCHING = True
    try:
        yield OPENED
    finally:
        WATCHING = False


@pytest.fixture
def model_folder(folder, tmp_path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "model"))


@pytest.fixture
def outside(folder, tmp_path) -> Path:
    """Good weights and settings beside the model's folder, which no model may reach."""
    return Path(shutil.copytree(folder, tmp_path / "outside"))


def edit(path: Path, **values) -> None:
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **values}))


def sharded(path: Path, name: object = "model-1.safetensors", where: Path | None = None) -> None:
    """The same weights behind an index that names the file `name`."""
    stored = safetensors.torch.load_file(path / "model.safetensors")
    (path / "model.safetensors").rename(where or path / "model-1.safetensors")
    edit(path / "model.safetensors.index.json", metadata={}, weight_map=dict.fromkeys(stored, name))


def test_the_controls_open(model_folder):
    before = load(model_folder).fingerprint
    sharded(model_folder)
    assert load(model_folder).fingerprint == before


NAMES = [
    "../outside/model.safetensors", "/etc/passwd", "..", ".", "", "a\\b.safetensors", "C:model.safetensors",
    "sub/m.safetensors", "model-1.safetensors\0.txt", "m\u200bodel-1.safetensors", "model\u20111.safetensors",
    "\uff0e\uff0e\uff0fm.safetensors", "model-1.safetensors ", "model-1.safetensors\n", "Model-1.safetensors",
    "MODEL-1.SAFETENSORS", "a" * 300 + ".safetensors", ".hidden.safetensors", "model-1.bin", "model-1.safetensors/",
    "~/m.safetensors", "file:///m.safetensors", 7, None, ["x"], {},
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_an_index_names_plain_files_of_its_folder_and_nothing_else(model_folder, outside, name):
    sharded(model_folder, name)
    with opened() as paths, pytest.raises(NotAModel, match="index"):
        load(model_folder)
    assert not [path for path in paths if path.endswith(".safetensors") or "outside" in path or "passwd" in path]


def link(path: Path, target: Path | str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


@pytest.mark.parametrize(
    "file", ["config.json", "tokenizer.json", "model.safetensors", "tokenizer_config.json", "chat_template.jinja"]
)
def test_a_link_out_of_the_folder_is_refused(model_folder, outside, file: str):
    (outside / file).touch()
    link(model_folder / file, Path("..") / "outside" / file)
    with opened() as paths, pytest.raises(NotAModel, match=f"{file}.*a link out of"):
        load(model_folder)
    assert not [path for path in paths if path.endswith(file)]


def test_a_link_inside_the_folder_is_followed(model_folder):
    (model_folder / "model.safetensors").rename(model_folder / "other.safetensors")
    link(model_folder / "model.safetensors", "other.safetensors")
    load(model_folder)


@pytest.mark.parametrize("target", ["nothing", "model.safetensors", "loop"])
def test_a_link_to_nothing_or_in_a_circle_is_refused(model_folder, target: str):
    link(model_folder / "model.safetensors", target)
    link(model_folder / "loop", "model.safetensors")
    with pytest.raises(NotAModel, match="leads nowhere"):
        load(model_folder)


def hub_cache(model: Path, tmp_path: Path) -> Path:
    """The folder as the hub's cache lays it out: links into blobs."""
    repo = tmp_path / "models--org--name"
    (repo / "blobs").mkdir(parents=True)
    snapshot = repo / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(model.iterdir())):
        shutil.copy(file, repo / "blobs" / f"{number:040x}")
        (snapshot / file.name).symlink_to(Path("..", "..", "blobs", f"{number:040x}"))
    return snapshot


def test_the_links_of_the_hubs_cache_are_followed_and_no_others(model_folder, outside, tmp_path):
    snapshot = hub_cache(model_folder, tmp_path)
    load(snapshot)
    link(snapshot / "config.json", outside / "config.json")
    with pytest.raises(NotAModel, match="a link out of"):
        load(snapshot)


def test_blobs_that_lead_out_are_no_blobs(model_folder, outside, tmp_path):
    snapshot = hub_cache(model_folder, tmp_path)
    blobs = snapshot.parent.parent / "blobs"
    blobs.rename(tmp_path / "elsewhere")
    blobs.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotAModel, match="a link out of"):
        load(snapshot)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors", "generation_config.json"])
def test_a_pipe_in_place_of_a_file_does_not_hang(model_folder, file: str):
    (model_folder / file).unlink(missing_ok=True)
    os.mkfifo(model_folder / file)
    with pytest.raises(NotAModel, match=rf"{re.escape(file)}.*is a pipe"):
        load(model_folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device files")
def test_a_device_in_place_of_a_file_is_refused(model_folder):
    (model_folder / "tokenizer.json").unlink()
    os.mknod(model_folder / "tokenizer.json", 0o20666, os.makedev(1, 5))  # as /dev/zero: reading it never ends
    with pytest.raises(NotAModel, match="pipe, a socket or a device"):
        load(model_folder)


CODE = {"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.Config", "AutoTokenizer": ["evil.Tokenizer", None]}


@pytest.mark.parametrize("nested", [False, True], ids=["top", "nested"])
@pytest.mark.parametrize(
    "file",
    ["config.json", "tokenizer_config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json"],
)
def test_no_file_of_settings_brings_code(model_folder, file: str, nested: bool):
    (model_folder / "evil.py").write_text("raise SystemExit('this must not run')")
    edit(model_folder / file, **({"text_config": {"deeper": [{"auto_map": CODE}]}} if nested else {"auto_map": CODE}))
    with opened() as paths, pytest.raises(NotAModel, match=f"{file}.*auto_map"):
        load(model_folder)
    assert not [path for path in paths if path.endswith(("evil.py", ".safetensors"))]


@pytest.mark.parametrize(
    ("file", "values", "says"),
    [
        ("config.json", {"attn_implementation": "evil/kernel"}, "kernel"),
        ("config.json", {"_attn_implementation": {"": "evil/kernel@main:x"}}, "kernel"),
        ("config.json", {"experts_implementation": "evil/kernel"}, "kernel"),
        ("config.json", {"transformers_weights": "../outside/model.safetensors"}, "transformers_weights"),
        ("config.json", {"transformers_weights": "adapter_model.bin"}, "transformers_weights"),
        ("tokenizer_config.json", {"gguf_file": "../outside/x.gguf"}, "gguf_file"),
        ("adapter_config.json", {"base_model_name_or_path": "../outside"}, "adapter"),
    ],
)
def test_settings_that_fetch_code_or_other_files_are_refused(model_folder, outside, file: str, values: dict, says: str):
    edit(model_folder / file, **values)
    with opened() as paths, pytest.raises(NotAModel, match=says):
        load(model_folder)
    assert not [path for path in paths if "outside" in path or path.endswith(".safetensors")]


@pytest.mark.parametrize("key", ["tokenizer_file", "vocab_file", "merges_file", "name_or_path", "chat_template_file"])
def test_a_tokenizers_settings_reach_no_file(model_folder, outside, key: str):
    """Published settings often hold such leftovers of the machine that wrote them, so they are passed over, not refused."""
    before = load(model_folder)
    edit(model_folder / "tokenizer_config.json", **{key: str(outside / "tokenizer.json")})
    with opened() as paths:
        after = load(model_folder)
    assert not [path for path in paths if "outside" in path]
    assert after.prepare(["the cat"]).ids.tolist() == before.prepare(["the cat"]).ids.tolist()


@pytest.mark.parametrize("name", ["os.system", "../evil.Tokenizer", "__import__", "LlamaTokenizer", 7, None])
def test_a_tokenizers_class_is_not_the_folders_choice(model_folder, name):
    (model_folder / "evil.py").write_text("raise SystemExit('this must not run')")
    before = load(model_folder).prepare(["the cat"]).ids
    edit(model_folder / "tokenizer_config.json", tokenizer_class=name)
    assert torch.equal(load(model_folder).prepare(["the cat"]).ids, before)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"vocab_size": 10**12}, r"[\d,]{15,} parameters.*GiB"),
        ({"hidden_size": 3 * 10**7}, r"parameters.*GiB"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers=1,000,000,000"),
        ({"num_labels": 10**10}, "num_labels=10,000,000,000"),
        ({"text_config": {"num_experts": 10**9}}, "num_experts"),
        ({"hidden_size": 10**30}, "could not be opened"),
        ({"num_attention_heads": 0}, "could not be opened"),
        ({"hidden_size": -36}, "could not be opened"),
        ({"hidden_size": "36"}, "could not be opened"),
    ],
    ids=str,
)
def test_a_config_that_asks_for_too_much_is_refused_before_memory_is_taken(model_folder, values: dict, says: str):
    edit(model_folder / "config.json", **values)
    with pytest.raises(NotAModel, match=says):
        load(model_folder)


JSON_BOMBS: dict[str, Callable[[], bytes]] = {
    "deep list": lambda: b'{"a":' + b"[" * 200_000,
    "deep object": lambda: b'{"a":' * 100_000,
    "deep and closed": lambda: b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "not utf-8": lambda: b'{"a": "\xff\xfe"}',
    "a list": lambda: b"[1, 2]",
    "nothing": lambda: b"",
    "a long number": lambda: b'{"hidden_size": ' + b"9" * 100_000 + b"}",
}


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "model.safetensors.index.json"])
@pytest.mark.parametrize("bomb", JSON_BOMBS)
def test_settings_that_are_no_sane_json_are_refused(model_folder, file: str, bomb: str):
    (model_folder / file).write_bytes(JSON_BOMBS[bomb]())
    with pytest.raises((Corrupt, NotAModel), match="model"):
        load(model_folder)


def test_settings_of_enormous_size_are_refused_unread(model_folder):
    os.truncate(model_folder / "config.json", 1 << 40)  # a sparse file: no room is taken
    with pytest.raises(NotAModel, match=r"1,099,511,627,776 bytes"):
        load(model_folder)


def header(entries: object, data: bytes = b"", length: int | None = None) -> bytes:
    told = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(told) if length is None else length) + told + data


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
HEADERS = {
    "a length beyond the file": header({"a": ONE}, b"0000", 10**6),
    "the greatest length": header({"a": ONE}, b"0000", 2**64 - 1),
    "overlapping": header({"a": ONE, "b": ONE}, b"0000"),
    "a hole": header({"a": ONE, "b": {**ONE, "data_offsets": [8, 12]}}, b"0" * 12),
    "backwards": header({"a": {**ONE, "data_offsets": [4, 0]}}, b"0000"),
    "overflowing": header({"a": {**ONE, "shape": [2**40, 2**40]}}, b"0000"),
    "negative": header({"a": {**ONE, "shape": [-1]}}, b"0000"),
    "more than there is": header({"a": {**ONE, "shape": [2], "data_offsets": [0, 8]}}, b"0000"),
    "less than there is": header({"a": ONE}, b"0000and more"),
    "a name twice": header(b'{"a":%s,"a":%s}' % ((json.dumps(ONE).encode(),) * 2), b"0000"),
    "an unknown type": header({"a": {**ONE, "dtype": "PICKLE"}}, b"0000"),
    "deep": header(b'{"__metadata__":' + b"[" * 200_000),
    "a list instead": header([1]),
    "a number instead": header({"a": 1}),
    "no shape": header({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, b"0000"),
    "seven bytes": b"\0" * 7,
    "nothing": b"",
    "a pickle": b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94\x93\x94.",
}


@pytest.mark.parametrize("name", HEADERS)
def test_weights_whose_header_lies_are_refused(model_folder, name: str):
    (model_folder / "model.safetensors").write_bytes(HEADERS[name])
    with pytest.raises(NotAModel, match=r"model\.safetensors .*no readable safetensors"):
        load(model_folder)


def test_weights_cut_short_anywhere_are_refused(model_folder):
    whole = (model_folder / "model.safetensors").read_bytes()
    for length in [0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1]:
        (model_folder / "model.safetensors").write_bytes(whole[:length])
        with pytest.raises(NotAModel, match="no readable safetensors"):
            load(model_folder)


def test_a_tensor_in_two_files_is_refused(model_folder):
    sharded(model_folder)
    index = json.loads((model_folder / "model.safetensors.index.json").read_text())
    name = next(iter(index["weight_map"]))
    write_tensors(model_folder / "model-2.safetensors", {name: torch.zeros(3), "other": torch.zeros(1)})
    index["weight_map"]["other"] = "model-2.safetensors"
    (model_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(NotAModel, match=r"stands in model-1\.safetensors and in model-2"):
        load(model_folder)


def test_an_index_that_names_a_tensor_its_file_lacks_is_refused(model_folder):
    sharded(model_folder)
    index = json.loads((model_folder / "model.safetensors.index.json").read_text())
    index["weight_map"]["ghost"] = "model-1.safetensors"
    (model_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(NotAModel, match=r"'ghost'.*not in model-1"):
        load(model_folder)


def test_any_bit_of_the_header_may_flip(model_folder):
    """Whatever one wrong bit in a header makes of it, the answer is the model or one of our errors."""
    whole = (model_folder / "model.safetensors").read_bytes()
    length = 8 + struct.unpack("<Q", whole[:8])[0]
    refused = 0
    for place in torch.randint(8 * length, (20,), generator=torch.Generator().manual_seed(3)).tolist():
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        (model_folder / "model.safetensors").write_bytes(flipped)
        try:
            load(model_folder)
        except ActscopeError:
            refused += 1
    assert refused > 10
