"""actscope score MODEL --diagnose on a folder of random weights, and on one with checkpoints."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from actscope.cli import main
from actscope.subjects.load import checkpoints

WORDS = ["the", "a", "cat", "dog", "sat", "ran", "on", "under", "mat", "log", "and", "then", "it", "was", "red", "blue"]
ONE_PASS = {"activation_sparsity", "attention_sinks", "geometry", "massive_activations", "word_classes"}


def make_model(folder: Path, seed: int) -> None:
    """A transformers folder: two random layers of a family with gated MLPs, and a tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    ids = {word: number for number, word in enumerate(["<s>", *WORDS])}
    backend = Tokenizer(models.WordLevel(ids, unk_token="<s>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<s>", pad_token="<s>").save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(ids), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=24, max_position_embeddings=64,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder)


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> Path:
    """A model, a text, classes of its words, and a folder of eight checkpoints."""
    root = tmp_path_factory.mktemp("diagnose")
    make_model(root / "model", seed=0)
    draw = torch.Generator().manual_seed(0)
    lines = [" ".join(WORDS[i] for i in torch.randint(len(WORDS), (30,), generator=draw).tolist()) for _ in range(42)]
    (root / "text.jsonl").write_text("\n".join(json.dumps({"text": line}) for line in lines))
    (root / "classes.json").write_text(json.dumps({"animal": ["cat", "dog"], "thing": ["mat", "log"]}))
    for step in range(1, 9):
        shutil.copytree(root / "model", root / "training" / f"checkpoint-{100 * step}")
    return root


def test_a_users_folder_is_examined_on_a_users_text_and_drawn_on_one_page(places, capsys):
    out = places / "out"
    command = ["score", str(places / "model"), str(places / "text.jsonl"), "--diagnose", "--out", str(out)]
    assert main([*command, "--classes", str(places / "classes.json"), "--tokens", "240", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((out / "diagnosis.json").read_text())
    taken = {one["name"]: one for one in found["measures"]}
    assert {name for name, one in taken.items() if one["why"]} == {"concepts_under_noise"}
    assert taken["void_layers"]["measured"] == taken["void_layers"]["declared"] == 4 * found["tokens"]
    assert 240 <= found["tokens"] < 300 and found["layers"] == 2 and found["checkpoints"] == []
    classes = next(one for one in taken["word_classes"]["scores"] if one["name"] == "word_classes")
    assert classes["parts"]["classes"] == 2 and classes["interval"][0] <= classes["value"] <= classes["interval"][1]
    page = (out / "diagnosis.html").read_text()
    assert page.count('class="panel measure"') == 9 and "<script" not in page and "default-src 'none'" in page


def test_checkpoints_in_a_folder_are_followed_and_the_cost_is_said_before(places, capsys):
    training = str(places / "training")
    assert [step for step, _ in checkpoints(training)] == [100 * n for n in range(1, 9)]
    command = [
        "score",
        training,
        "--diagnose",
        str(places / "text.jsonl"),
        "--tokens",
        "120",
        "--out",
        str(places / "followed"),
    ]
    assert main([*command, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "at 8 checkpoints" in said and "pairs: 4 forward passes" in said and not (places / "followed").exists()
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert shown.index("declared cost") < shown.index("The page:") and "massive_dynamics" in shown
    found = json.loads((places / "followed" / "diagnosis.json").read_text())
    assert [one["step"] for one in found["checkpoints"]] == [100 * n for n in range(1, 9)]
    names = {score["name"].partition(":")[0] for score in found["checkpoints"][0]["scores"]}
    assert names == {"activation_sparsity", "attention_sinks", "alpha", "rankme", "massive_activations"}
    sinks = next(one for one in found["measures"] if one["name"] == "attention_sinks")
    assert sinks["declared"] == sinks["measured"] == 9 * found["tokens"]
    assert (places / "followed" / "diagnosis.html").read_text().count("Over training") >= 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pocket", "--diagnose", "--model", "pocket"], "not pocket with --diagnose"),
        (["pocket"], "actscope score pocket --diagnose"),
        (["pocket", "text.txt", "--model", "pocket"], "is a model"),
        (["runs/sae"], "no store"),
        (["runs/sae", "acts"], "no --model"),
        (["runs/sae", "acts", "--model", "pocket", "--dry-run"], "belong to a diagnosis"),
    ],
)
def test_the_two_uses_are_not_confused(arguments, said, capsys):
    assert main(["score", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_what_is_no_model_or_no_list_of_classes_is_refused(places, capsys, tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    assert main(["score", str(tmp_path), "--diagnose"]) == 2
    (tmp_path / "bad.json").write_text('{"one": "word"}')
    command = [
        "score",
        str(places / "model"),
        str(places / "text.jsonl"),
        "--diagnose",
        "--classes",
        str(tmp_path / "bad.json"),
    ]
    assert main(command) == 3
    assert "expected {" in capsys.readouterr().err
    assert main(["score", str(places / "text.jsonl"), "--diagnose"]) == 3
