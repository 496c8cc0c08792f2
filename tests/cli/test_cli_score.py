"""actscope score on a model folder, a store and a dictionary on disk."""

import json
from pathlib import Path

import pytest
import torch

from actscope.cli import main
from actscope.core import artifact
from actscope.corpora.texts import texts
from actscope.dictionaries.pca import PCA
from actscope.stores.capture import capture
from actscope.subjects.load import load
from actscope.training.fit import fit
from actscope.training.plan import Plan

SITE = "layers.0.resid_post"
WORDS = ["the", "a", "cat", "dog", "sat", "ran", "on", "under", "mat", "log", "and", "then", "it", "was", "red", "blue"]


def make_model(folder: Path, seed: int = 1) -> None:
    """A transformers folder: one random layer and a tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

    ids = {word: number for number, word in enumerate(["<|endoftext|>", *WORDS])}
    backend = Tokenizer(models.WordLevel(ids, unk_token="<|endoftext|>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
    special = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), "<|endoftext|>")
    PreTrainedTokenizerFast(tokenizer_object=backend, **special).save_pretrained(folder)
    config = GPTNeoXConfig(
        vocab_size=len(ids), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPTNeoXForCausalLM(config)
        for name, parameter in model.named_parameters():
            torch.nn.init.normal_(parameter, mean=1.0 if "norm" in name and "weight" in name else 0.0, std=0.5)
    model.save_pretrained(folder)


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, str]:
    """Folders of a model, of a store of text that the model wrote, and of its principal components."""
    root = tmp_path_factory.mktemp("score")
    make_model(root / "model")
    subject = load(root / "model")
    generator = torch.Generator().manual_seed(0)
    ids = torch.zeros(30, 1, dtype=torch.long)
    with torch.no_grad():
        for _ in range(20):
            chances = subject.run(ids).logits[:, -1].softmax(-1)
            chances[:, 0] = 0
            ids = torch.cat([ids, torch.multinomial(chances, 1, generator=generator)], dim=1)
    corpus = texts([" ".join(WORDS[int(i) - 1] for i in row[1:]) for row in ids])
    store = capture(subject, corpus, [SITE], out=root / "store")
    made = fit(PCA(reads={SITE: 16}), store, Plan(batch=64))
    artifact.save(made, root / "pca")
    return {name: str(root / name) for name in ("model", "store", "pca")}


def test_it_prints_every_measure(places, capsys):
    assert main(["score", places["pca"], places["store"], "--model", places["model"]]) == 0
    shown = capsys.readouterr().out
    for word in ("fvu", "l0", "dead_share", "cross_entropy", "recovered_zero", "nats per token"):
        assert word in shown


def test_json_is_one_document_and_every_component_rebuilds_the_site(places, capsys, tmp_path):
    command = ["score", places["pca"], places["store"], "--model", places["model"], "--json", "--out", str(tmp_path / "kept")]
    assert main(command) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert found["fvu"]["value"] < 1e-6 and found["cross_entropy"]["value"] == pytest.approx(1, abs=1e-3)
    assert found["fvu"]["n"] == 600 and found["cross_entropy"]["n"] == 30 * 19
    kept = artifact.open(tmp_path / "kept")
    assert [one.value for one in kept] == [one["value"] for one in found.values()]


def test_what_is_not_a_dictionary_is_refused(places, capsys, tmp_path):
    assert main(["score", places["store"], places["pca"], "--model", places["model"]]) == 3
    assert "expected a dictionary" in capsys.readouterr().err
    assert main(["score", str(tmp_path / "none"), places["store"], "--model", places["model"]]) == 3
    make_model(tmp_path / "other", seed=2)
    assert main(["score", places["pca"], places["store"], "--model", str(tmp_path / "other")]) == 3
    assert "fingerprint" in capsys.readouterr().err


def test_the_model_stands_where_it_is_asked_to(places, monkeypatch, capsys):
    asked, real = [], load
    monkeypatch.setattr("actscope.cli._scored.load", lambda model, **given: (asked.append(given), real(model))[1])
    assert main(["score", places["pca"], places["store"], "--model", places["model"], "--device", "cuda:1"]) == 0
    assert asked == [{"device": "cuda:1"}]


def test_measures_are_taken_by_name(places, capsys, tmp_path):
    command = ["score", places["pca"], places["store"], "--model", places["model"], "--json"]
    assert main([*command, "--measure", "kl_divergence", "--measure", "stability", "--other", places["pca"]]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in found] == ["kl_divergence", "stability"]
    assert found[0]["value"] == pytest.approx(1, abs=1e-3) and found[1]["value"] == pytest.approx(1, abs=1e-4)
    assert main([*command, "--measure", "spurious_removal"]) == 3
    assert "needs labels, pairs" in capsys.readouterr().err
    assert main([*command, "--measure", "kl"]) == 3
    assert "It has: absorption" in capsys.readouterr().err
    assert main([*command, "--measure", "stability", "--other", places["store"]]) == 3
    assert "expected a dictionary" in capsys.readouterr().err
