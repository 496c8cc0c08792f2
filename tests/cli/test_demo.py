"""The main job end to end on a tiny model and text, and what it says to bad input."""

import json
import random
from pathlib import Path

import pytest
import torch

from actscope.cli import main
from actscope.reports.document import Report

MODEL_SEED = 3


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    """A GPT-NeoX of 2 layers with a word-level tokenizer, as transformers saves it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

    words = sorted(set(" ".join(SENTENCES).split()) - {"?"})
    vocabulary = {"<|endoftext|>": 0, "?": 1, **{word: number for number, word in enumerate(words, 2)}}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
    folder = tmp_path_factory.mktemp("model")
    special = dict.fromkeys(("bos_token", "eos_token", "pad_token"), "<|endoftext|>")
    PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="?", **special).save_pretrained(folder)
    config = GPTNeoXConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=48, rotary_pct=0.5, bos_token_id=0, eos_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(MODEL_SEED)
        GPTNeoXForCausalLM(config).save_pretrained(folder)
    return folder


SENTENCES = (
    "the cat sat on the mat .", "a dog ran to the river .", "one two three four five six .", "red green blue and grey paint .",
    "she gave him a book today .", "( left and right ) and ( up and down ) .", "we saw rain in the north .", "why not ?",
)  # fmt: skip


@pytest.fixture(scope="session")
def text_file(tmp_path_factory) -> Path:
    """About 20,000 words in 700 documents of a few sentences, each a random choice."""
    choose = random.Random(0)
    passages = [" ".join(choose.choice(SENTENCES) for _ in range(choose.randint(3, 6))) for _ in range(700)]
    path = tmp_path_factory.mktemp("text") / "notes.jsonl"
    path.write_text("\n".join(json.dumps({"text": passage}) for passage in passages))
    return path


@pytest.fixture(scope="session")
def ran(model_folder, text_file, tmp_path_factory) -> Path:
    from rich.console import Console

    from actscope.cli import _job
    from actscope.reports.terminal import Stages

    out = tmp_path_factory.mktemp("out") / "demo"
    job = _job.Job(
        model=str(model_folder), text=text_file, out=out, expansion=2, k=8, passes=2, features=4, candidates=6, positions=16
    )
    with Stages(Console(quiet=True), _job.STAGES) as stages:
        _job.run(job, stages)
    return out


def test_the_job_writes_a_report_that_holds_together(ran):
    report = Report.from_json(json.loads((ran / "report.json").read_text()))
    assert report.features and report.tried.reported == len(report.features)
    assert [stage.name for stage in report.stages][0] == "load the model" and report.seconds > 0
    for feature in report.features:
        assert 0.4 < feature.detection_shuffled < 0.6
        assert feature.contexts >= 400 and feature.examples.top and feature.histogram
        assert feature.ablate is not None and feature.steer is not None and feature.targets
        shown = feature.examples.top[0]
        assert shown.activation > 0 and all(isinstance(piece, str) for piece, _ in shown.before)
    assert min(report.splits.propose, report.splits.select, report.splits.report) > 20


def test_the_job_writes_a_page_and_what_it_found(ran):
    import actscope as act

    assert "<html" in (ran / "report.html").read_text()
    report = json.loads((ran / "report.json").read_text())
    explained = act.open(ran / "explanations")
    assert [one.latent for one in explained] == [feature["latent"] for feature in report["features"]]
    assert act.open(ran / "dictionary").n_latents == report["dictionary"]["latents"]


def test_a_dry_run_says_what_would_be_done_and_does_nothing(model_folder, text_file, tmp_path, capsys):
    out = tmp_path / "demo"
    assert main(["demo", "--model", str(model_folder), "--text", str(text_file), "--out", str(out), "--dry-run", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["site"] == "layers.0.resid_post" and not out.exists()


def bad(tmp_path: Path, model: Path, text: Path) -> dict[str, tuple[list[str], str]]:
    """Arguments -> a word of the sentence they must end in."""
    empty, short, nothing = tmp_path / "empty.txt", tmp_path / "short.txt", tmp_path / "nothing"
    empty.write_text("")
    short.write_text("the cat sat .")
    nothing.mkdir()
    plain = ["--model", str(model), "--out", str(tmp_path / "out")]
    return {
        "missing file": ([*plain, "--text", str(tmp_path / "gone.txt")], "gone.txt"),
        "empty corpus": ([*plain, "--text", str(empty)], "empty.txt"),
        "shorter than a context": ([*plain, "--text", str(short)], "longer"),
        "no model": (["--model", str(nothing), "--out", str(tmp_path / "out")], "config.json"),
        "unknown site": ([*plain, "--text", str(text), "--site", "layers.9.resid_post"], "layers.9.resid_post"),
        "no vector a token": ([*plain, "--text", str(text), "--site", "layers.0.attn_pattern"], "attn_pattern"),
        "out is a file": ([*plain[:2], "--text", str(text), "--out", str(short / "x")], "short.txt"),
    }  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    [
        "missing file",
        "empty corpus",
        "shorter than a context",
        "no model",
        "unknown site",
        "no vector a token",
        "out is a file",
    ],
)
def test_bad_input_ends_in_one_sentence_and_code_3(kind, model_folder, text_file, tmp_path, capsys):
    arguments, word = bad(tmp_path, model_folder, text_file)[kind]
    assert main(["demo", *arguments]) == 3
    said = capsys.readouterr().err
    assert word in said and "Traceback" not in said
    assert not (tmp_path / "out" / "report.json").exists()
