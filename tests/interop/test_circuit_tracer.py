"""circuit-tracer's sets written and read back without the package; with it: test_peers.py."""

from pathlib import Path

import pytest
from interop_ours import CLOSE, assert_same, cross_layer, rows, transcoder
from safetensors.torch import load_file

from actscope.core import files
from actscope.core.errors import BadInput, Corrupt
from actscope.interop.circuit_tracer import CircuitTracer

WRITER = CircuitTracer(writes="blocks.0.hook_mlp_out")


@pytest.mark.parametrize("activation, skip", [("relu_l1", False), ("jumprelu", True), ("batch_topk", False)])
def test_a_set_written_and_read_back_computes_the_same(activation: str, skip: bool, tmp_path: Path):
    made = [transcoder(10, 10, seed=layer, layer=layer, activation=activation, skip=skip) for layer in range(3)]
    WRITER.write(made[::-1], tmp_path)
    for layer, ours in enumerate(made):
        found = CircuitTracer(layer=layer).open(tmp_path)
        assert_same(ours, found.dictionary, rows(10))
        assert found.fidelity(rows(10)).reconstruction <= CLOSE
        assert (str(found.dictionary.read), str(found.dictionary.write)) == (
            f"layers.{layer}.mlp_in",
            f"layers.{layer}.mlp_add",
        )
    assert load_file(tmp_path / "layer_0.safetensors")["W_enc"].shape == (40, 10), "latents first"


def test_a_layer_must_be_chosen_and_be_there(tmp_path: Path):
    WRITER.write([transcoder(10, 10, layer=layer, activation="relu_l1") for layer in range(2)], tmp_path)
    for layer in (None, 2):
        with pytest.raises(BadInput, match=r"layers \[0, 1\]"):
            CircuitTracer(layer=layer).read(tmp_path)


def test_sets_that_they_refuse_are_not_written(tmp_path: Path):
    one, two = (transcoder(10, 10, layer=layer, activation="relu_l1") for layer in (0, 2))
    with pytest.raises(BadInput, match="without a gap"):
        WRITER.write([one, two], tmp_path)
    with pytest.raises(BadInput, match="topk"):
        WRITER.write([transcoder(10, 10, layer=0)], tmp_path)
    with pytest.raises(BadInput, match="TransformerLens"):
        CircuitTracer().write([one], tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("activation", ["relu_l1", "jumprelu"])
def test_one_across_layers_written_and_read_back_computes_the_same(activation: str, tmp_path: Path):
    made, x = cross_layer(10, activation=activation), rows(30)
    WRITER.write(made, tmp_path, about={"model_name": "pocket"})
    found = CircuitTracer().open(tmp_path)
    assert_same(made, found.dictionary, x)
    fidelity = found.fidelity(x)
    assert max(fidelity.codes, fidelity.reconstruction) <= CLOSE and fidelity.rows == 200
    assert [str(port) for port in found.dictionary.writes] == [f"layers.{layer}.mlp_add" for layer in range(3)]
    assert found.numerics["model_name"] == "pocket" and found.numerics["model_kind"] == "cross_layer_transcoder"
    assert load_file(tmp_path / "W_dec_1.safetensors")["W_dec_1"].shape == (40, 2, 10), "its own layer and the later one"


def test_those_across_layers_that_do_not_fit_are_refused_both_ways(tmp_path: Path):
    for settings, says in (
        ({}, "chooses by topk"),
        ({"joint": True}, "joint=True"),
        ({"split": [20, 60, 40], "activation": "relu_l1"}, r"\[20, 60, 40\] latents"),
    ):
        with pytest.raises(BadInput, match=says):
            WRITER.write(cross_layer(10, **settings), tmp_path)
    assert not list(tmp_path.iterdir())
    WRITER.write(cross_layer(10, activation="jumprelu"), tmp_path)
    with pytest.raises(BadInput, match="leave layer=1 out"):
        CircuitTracer(layer=1).read(tmp_path)
    w = load_file(tmp_path / "W_enc_1.safetensors")
    for name, value, says in (
        ("b_dec_1", w["b_dec_1"][:-1], "Layer 1 holds"),
        ("threshold_1", w["threshold_1"] - 10, "negative"),
    ):
        files.write_tensors(tmp_path / "W_enc_1.safetensors", {**w, name: value})
        with pytest.raises(BadInput, match=says):
            CircuitTracer().read(tmp_path)
    (tmp_path / "W_enc_1.safetensors").unlink()
    with pytest.raises(BadInput, match=r"layers \[0, 2\]"):
        CircuitTracer().read(tmp_path)


def test_foreign_configs_are_checked(tmp_path: Path):
    WRITER.write([transcoder(10, 10, layer=0, activation="jumprelu")], tmp_path)
    w = load_file(tmp_path / "layer_0.safetensors")
    name = "activation_function.threshold"
    files.write_tensors(tmp_path / "layer_0.safetensors", {**w, name: w[name] - 10})
    with pytest.raises(BadInput, match="negative codes"):
        CircuitTracer().read(tmp_path)
    for kind, says in (("molt", "model_kind='molt'"), ("cross_layer_transcoder", "two or more")):
        (tmp_path / "config.yaml").write_text(f"model_kind: {kind}\n")
        with pytest.raises(BadInput, match=says):
            CircuitTracer().read(tmp_path)
    (tmp_path / "config.yaml").write_text("a: [1\n")
    with pytest.raises(Corrupt, match="YAML"):
        CircuitTracer().read(tmp_path)
