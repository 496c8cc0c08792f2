"""The verbs of stores on the command line, on a transformers folder: exit codes, JSON alone on stdout, what is repaired."""

import json

import pytest
import torch

from actscope.checks.check_store import check_store
from actscope.cli import main
from actscope.core import artifact, files
from actscope.corpora.files import files as corpus_of
from actscope.stores.disk import DiskStore
from actscope.subjects.load import load


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A transformers folder with random weights and a byte tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

    path = tmp_path_factory.mktemp("verbs") / "model"
    letters = {letter: number + 1 for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab={"<|endoftext|>": 0, **letters}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|endoftext|>"])
    backend.post_processor = processors.TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
    PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<|endoftext|>", eos_token="<|endoftext|>").save_pretrained(
        path
    )
    config = GPTNeoXConfig(
        vocab_size=257, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=50,
        max_position_embeddings=40, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        GPTNeoXForCausalLM(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("verbs") / "notes.md"
    path.write_text("\n\n".join(f"Note {n}: " + "words and words. " * (n % 34) for n in range(100)))
    return path


@pytest.fixture(scope="module")
def store(model, text, tmp_path_factory):
    out = tmp_path_factory.mktemp("verbs") / "acts"
    assert run("capture", model, text, "--site", "layers.*.mlp_out", "--site", "layers.1.z", "--out", out) == 0
    return out


def run(*words) -> int:
    return main([str(word) for word in words])


def test_a_captured_store_of_a_transformer_keeps_the_contract(store, model, text):
    check_store(DiskStore(store), load(model), corpus_of(text))


def test_packed_rows_of_a_transformer_are_those_of_its_documents_alone(store, model, text, tmp_path):
    sites = ["layers.0.mlp_out", "layers.1.mlp_out", "layers.1.z"]
    given = ["--site", sites[0], "--site", sites[1], "--site", sites[2], "--packed"]
    assert run("capture", model, text, *given, "--out", tmp_path / "p") == 0
    one, other = (opened.rows(torch.arange(len(opened)), sites) for opened in (DiskStore(store), DiskStore(tmp_path / "p")))
    assert torch.equal(one.where, other.where)
    for port, x in one.acts.items():
        torch.testing.assert_close(other.acts[port], x, rtol=1e-5, atol=1e-5)


def test_a_dry_run_predicts_rows_and_bytes_and_writes_nothing(store, model, text, capsys, tmp_path):
    given = ["--site", "layers.*.mlp_out", "--site", "layers.1.z", "--json"]
    assert run("capture", model, text, *given, "--dry-run", "--out", tmp_path / "none") == 0
    said = json.loads(capsys.readouterr().out)
    real = sum(path.stat().st_size for path in store.glob("unit-*"))
    assert said["rows"] == len(DiskStore(store)) and abs(said["bytes"] / real - 1) < 0.05
    assert not (tmp_path / "none").exists() and said["free"] > 0


def test_json_is_one_document_and_again_is_the_same_store(store, model, text, capsys):
    given = ["--site", "layers.*.mlp_out", "--site", "layers.1.z", "--json"]
    assert run("capture", model, text, *given, "--out", store) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["content"] == DiskStore(store).content and said["ports"]["layers.1.z"] == 24
    assert said["resumed"] == said["rows"]  # nothing was run twice, and that is said


def test_show_says_what_it_is(store, capsys):
    assert run("show", store, "--json") == 0
    (said,) = json.loads(capsys.readouterr().out)
    assert said["kind"] == "store" and said["rows"] == len(DiskStore(store)) and said["state"] == "finished"
    assert run("show", store.parent) == 0
    assert "layers.1.z=24" in capsys.readouterr().out.replace("\n", "")


def test_damage_is_found_and_only_it_is_captured_again(store, model, text, capsys):
    assert run("verify", store) == 0
    shards = sorted(store.glob("unit-*"))
    before = {path: path.stat().st_mtime_ns for path in shards}
    assert len(shards) >= 3
    data = bytearray(shards[1].read_bytes())
    data[len(data) // 2] ^= 1
    shards[1].write_bytes(data)
    shards[2].unlink()
    capsys.readouterr()
    assert run("verify", store.parent, "--json") == 6
    out, error = capsys.readouterr()
    assert set(json.loads(out)[0]["damaged"]) == {shards[1].name, shards[2].name} and "actscope repair" in error
    assert run("repair", store, model, text, "--json") == 0
    assert set(json.loads(capsys.readouterr().out)["repaired"]) == {shards[1].name, shards[2].name}
    assert run("verify", store) == 0 and shards[0].stat().st_mtime_ns == before[shards[0]]
    aside = list(store.glob(".corrupt-*"))
    assert len(aside) == 1 and aside[0].read_bytes() == data  # set aside, not deleted


def test_repair_refuses_another_text_and_another_model(store, model, text, tmp_path, capsys):
    (tmp_path / "other.txt").write_text("another text")
    assert run("repair", store, model, tmp_path / "other.txt") == 3
    assert "another text than other.txt" in capsys.readouterr().err.replace("\n", " ")


def test_gc_deletes_leftovers_and_nothing_else(store, capsys):
    before = sorted(path.name for path in store.iterdir() if not path.name.startswith("."))
    mine = store / "notes about this.txt"
    mine.write_text("mine")
    left = [store / "unit-000099-deadbeef.safetensors", store / ".manifest.json.tmp-1-aa", store / ".corrupt-x-bb"]
    for path in left:
        path.write_text("left")
    assert run("gc", store, "--dry-run") == 0 and all(path.exists() for path in left)
    assert run("gc", store, "--json") == 0
    assert run("verify", store) == 0
    assert sorted(path.name for path in store.iterdir()) == sorted([*before, mine.name])
    mine.unlink()


@pytest.mark.parametrize(
    "words, code, said",
    [
        (["capture", "MODEL", "TEXT", "--site", "layers.0.mlp_out"], 2, "--out is missing"),
        (["capture", "MODEL", "TEXT", "--out", "OUT"], 2, "site"),
        (["capture", "MODEL", "no-such-file.txt", "--site", "embed", "--out", "OUT"], 3, "no file or folder no-such-file.txt"),
        (["capture", "MODEL", "standart-library", "--site", "embed", "--out", "OUT"], 3, "did you mean standard-library"),
        (["capture", "MODEL", "grammar:middle", "--site", "embed", "--out", "OUT"], 2, "grammar has no split 'middle'"),
        (["capture", "MODEL", "TEXT", "--site", "layers.9.mlp_out", "--out", "OUT"], 3, "layers.1.mlp_out"),
        (["capture", "MODEL", "TEXT", "--site", "layers.0.attn_pattern", "--out", "OUT"], 3, "no row per token"),
        (["capture", "MODEL", "SHORT", "--site", "embed", "--out", "OUT"], 3, "expected at least one context of 40"),
        (["capture", "MODEL", "EMPTY", "--site", "embed", "--out", "OUT"], 3, "holds no text"),
        (["capture", "TEXT", "TEXT", "--site", "embed", "--out", "OUT"], 3, "expected"),
        (["verify", "OUT"], 3, "holds no artifact"),
        (["show", "OUT"], 3, "holds no artifact"),
        (["gc", "OUT"], 3, "holds no artifact"),
        (["repair", "OUT", "MODEL", "TEXT"], 3, "is not a saved artifact"),
    ],
)
def test_bad_input_ends_in_one_sentence_and_its_exit_code(words, code, said, model, text, tmp_path, capsys):
    (tmp_path / "short.txt").write_text("too short")
    (tmp_path / "empty.txt").write_text("\n")
    stand_for = {
        "MODEL": model, "TEXT": text, "OUT": tmp_path / "out", "SHORT": tmp_path / "short.txt", "EMPTY": tmp_path / "empty.txt"
    }  # fmt: skip
    assert run(*[stand_for.get(word, word) for word in words]) == code
    out, error = capsys.readouterr()
    assert said in error.replace("\n", " ") and not out
    assert "Traceback" not in error


def test_weights_that_are_no_numbers_are_named(model, text, tmp_path, capsys):
    weights = files.read_tensors(model / "model.safetensors")
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in model.iterdir():
        if path.name != "model.safetensors":
            (broken / path.name).write_bytes(path.read_bytes())
    name = "gpt_neox.layers.1.mlp.dense_4h_to_h.weight"
    weights[name][3, 3] = float("nan")
    files.write_tensors(broken / "model.safetensors", weights)
    assert run("capture", broken, text, "--site", "embed", "--out", tmp_path / "out") == 3
    assert name in capsys.readouterr().err.replace("\n", "")


def test_an_unfinished_capture_is_shown_as_such(store, tmp_path, capsys):
    manifest = artifact.read_manifest(store)
    artifact.commit(
        tmp_path / "begun", {**{k: manifest[k] for k in manifest if k not in ("format", "content")}, "complete": False}
    )
    assert run("show", tmp_path / "begun", "--json") == 0
    assert "unfinished" in json.loads(capsys.readouterr().out)[0]["state"]
