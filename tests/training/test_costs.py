"""A plan of a capture and a fit: bytes as they turn out, no weights needed, every assumption said. Times against the clock are
the business of `make bench-plan`: here other work may run beside."""

import json

import pytest

from actscope.cli import main
from actscope.core import artifact, files
from actscope.core.errors import BadInput, NotAModel
from actscope.corpora.texts import texts
from actscope.dictionaries.topk import TopK
from actscope.stores.capture import capture
from actscope.subjects.blank import blank
from actscope.training import _rates, costs
from actscope.training.costs import Asked

CONFIG = {
    "model_type": "gpt_neox", "hidden_size": 24, "intermediate_size": 48, "num_attention_heads": 3, "num_hidden_layers": 4,
    "vocab_size": 300, "max_position_embeddings": 64,
}  # fmt: skip
CORPUS = texts([f"Note {n}: " + "words and words. " * (3 + n % 30) for n in range(900)])


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    """Measured for an instant: what is tested here is no time."""
    monkeypatch.setattr(_rates, "_SECONDS", 0.2)


@pytest.fixture
def model(tmp_path):
    files.write_json(tmp_path / "model" / "config.json", CONFIG)
    return str(tmp_path / "model")


def test_a_blank_model_has_the_shape_and_needs_no_weights(model):
    whole, cut = blank(model), blank(model, layers=2)
    assert [site for site in whole.sites if site.layer in (None, 0, 1)] == list(cut.sites)
    assert sum(x.numel() for x in blank(model, device="meta").weights().values()) == sum(
        x.numel() for x in whole.weights().values()
    )
    with pytest.raises(BadInput, match="has 4"):
        blank(model, layers=5)
    with pytest.raises(NotAModel):
        blank(model + "-not-there")


@pytest.mark.parametrize("grads", [False, True])
def test_bytes_are_those_of_the_capture_and_the_fit(tmp_path, grads):
    asked = Asked("pocket-mini", "layers.1.mlp_out", tokens=60_000, latents=256, k=8, grads=grads)
    planned = costs.costs(asked, CORPUS, near=tmp_path)
    assert list(tmp_path.iterdir()) == [], "what was tried is gone"
    store = capture(
        blank("pocket-mini"), CORPUS, ["layers.1.mlp_out"], tokens=60_000, out=tmp_path / "s", grads=grads
    )  # random weights, so another store than pocket-mini's, of the same size
    real = sum(path.stat().st_size for path in (tmp_path / "s").glob("unit-*"))
    assert planned.capture.bytes == pytest.approx(real, rel=0.1)
    artifact.save(TopK(reads=dict(store.ports), n_latents=256, k=8), tmp_path / "sae")
    real = sum(path.stat().st_size for path in (tmp_path / "sae").glob("*.safetensors"))
    assert planned.fit.bytes == pytest.approx(real, rel=0.1)
    assert planned.capture.seconds > 0 and planned.fit.seconds > 0 and planned.capture.price is None


def test_gradients_take_the_whole_model(model):
    asked = {"site": "layers.1.mlp_out", "tokens": 1000, "latents": 64}
    assert costs._Shape(Asked(model, **asked)).needed == 2 and costs._Shape(Asked(model, grads=True, **asked)).needed == 4


def test_more_rows_take_longer_and_more_room_in_proportion(tmp_path):
    few, many = (
        costs.costs(Asked("pocket-mini", "layers.0.mlp_out", tokens=n, latents=64, k=4), CORPUS, near=tmp_path)
        for n in (10**6, 10**8)
    )
    assert many.capture.bytes == pytest.approx(100 * few.capture.bytes, rel=0.02)
    assert many.capture.seconds > 10 * few.capture.seconds


def test_accelerators_are_counted_and_all_that_is_assumed_is_said(model, tmp_path):
    asked = {"site": "layers.2.resid_post", "tokens": 10**10, "latents": 10**6, "price": 2.0, "disk": 1e12}
    one = costs.costs(Asked(model, gpus=8, **asked), CORPUS, near=tmp_path)
    two = costs.costs(Asked(model, gpus=16, **asked), CORPUS, near=tmp_path)
    assert two.fit.seconds == pytest.approx(one.fit.seconds / 2) and two.fit.price == pytest.approx(one.fit.price)
    assert one.fit.seconds == pytest.approx(10**10 * 6 * 24 * 10**6 / (8 * 989e12 * 0.4))
    assert one.fit.price == pytest.approx(one.fit.hours * 2.0)
    said = {what: source for what, _, source in one.rests_on}
    assert said["an accelerator"].startswith("assumed") and said["of which reached"] == "assumed"
    given = costs.costs(Asked(model, gpus=8, tflops=100.0, share=0.5, **asked), CORPUS, near=tmp_path)
    said = {what: source for what, _, source in given.rests_on}
    assert said["an accelerator"] == said["of which reached"] == "given"
    assert given.fit.seconds == pytest.approx(one.fit.seconds * 989 * 0.4 / 50)


def test_a_dictionary_too_wide_to_try_is_tried_narrower(monkeypatch, tmp_path):
    monkeypatch.setattr(costs, "_STEP", 1e-9)
    asked = Asked("pocket-mini", "layers.0.mlp_out", tokens=10**6, latents=1 << 20, k=4, batch=256)
    found = costs.costs(asked, CORPUS, near=tmp_path)
    assert any("and continued" in source for what, _, source in found.rests_on if what == "fit")
    assert found.fit.memory > 4 * (1 << 20) * 2 * 64 * 4 * 0.9


def test_the_verb_prints_json_and_a_table(model, tmp_path, capsys):
    (tmp_path / "t.md").write_text("\n\n".join(document.text for document in CORPUS.documents()))
    words = ["plan", "--model", model, "--tokens", "10B", "--latents", "1M", "--gpus", "64", "--corpus", str(tmp_path / "t.md")]
    assert main([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["asked"]["tokens"] == 10**10 and said["asked"]["site"] == "layers.1.resid_post" and said["fit"]["seconds"] > 0
    assert main(words) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "64 accelerators" in printed and "give --price" in printed and "assumed" in printed


@pytest.mark.parametrize(("words", "code", "said"), [
    (["--tokens", "ten"], 2, "--tokens ten cannot be"),
    (["--tokens", "10M", "--gpus", "0"], 3, "gpus=0"),
    (["--tokens", "10M", "--site", "layers.*.mlp_out"], 3, "stands for"),
    (["--tokens", "10M", "--site", "layers.9.mlp_out"], 3, "layers."),
])  # fmt: skip
def test_what_cannot_be_is_refused(words, code, said, capsys):
    assert main(["plan", "--model", "pocket-mini", *words]) == code
    assert said in capsys.readouterr().err.replace("\n", " ")
