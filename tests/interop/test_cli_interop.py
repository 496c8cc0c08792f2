"""`actscope import` and `actscope export`: files of other packages to artifacts and back, measured on a model's activations."""

import json
from pathlib import Path

import pytest
import torch
from interop_ours import CLOSE, assert_same, autoencoder, cross_layer, rows, shaken, transcoder

from actscope.cli import main
from actscope.core import artifact, methods
from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput
from actscope.core.site import Site
from actscope.interop._parts.format import Foreign
from actscope.interop.circuit_tracer import CircuitTracer
from actscope.interop.saelens import SAELens
from actscope.subjects.load import load


def made(width: int) -> Dictionary:
    topk = methods.find("dictionaries", "topk")
    return shaken(topk(reads={"layers.1.resid_post": width}, n_latents=64, k=4))  # type: ignore[operator]


def test_there_and_back_through_the_command_line(tmp_path: Path, capsys):
    pocket = load("pocket-mini")
    width = next(info.width for site, info in pocket.sites.items() if str(site) == "layers.1.resid_post")
    ours = made(width)
    artifact.save(ours, tmp_path / "sae")
    given = ["--about", "model_name=pocket-mini", "--about", "prepend_bos=true"]
    assert main(["export", "saelens", str(tmp_path / "sae"), "--out", str(tmp_path / "theirs"), *given]) == 0
    cfg = json.loads((tmp_path / "theirs" / "cfg.json").read_text())
    assert cfg["metadata"]["hook_name"] == "blocks.1.hook_resid_post"
    assert (cfg["metadata"]["model_name"], cfg["metadata"]["prepend_bos"]) == ("pocket-mini", True)
    capsys.readouterr()
    command = ["import", "saelens", str(tmp_path / "theirs"), "--out", str(tmp_path / "back"), "--model", "pocket-mini"]
    assert main([*command, "--rows", "300", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["error"]["rows"] == 300 and said["error"]["codes"] <= CLOSE and said["error"]["reconstruction"] <= CLOSE
    assert said["stated"]["prepend_bos"] is True
    back = artifact.open(tmp_path / "back")
    assert isinstance(back, Dictionary) and back.subject == pocket.fingerprint
    assert_same(ours, back, rows(width))
    assert main(command[:3] + ["--out", str(tmp_path / "unmeasured")]) == 0
    assert "not measured" in capsys.readouterr().out
    assert main(["export", "saelens", str(tmp_path / "back"), "--out", str(tmp_path / "again")]) == 0
    again = json.loads((tmp_path / "again" / "cfg.json").read_text())
    assert again["metadata"]["prepend_bos"] is True, "what the first files stated is stated again"


def test_a_conversion_that_is_off_is_not_saved(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    SAELens().write(autoencoder("topk"), tmp_path / "theirs")
    rows_of = "actscope.cli._foreign.real_rows"
    monkeypatch.setattr(rows_of, lambda *_: rows(12))
    right = SAELens.open

    @torch.no_grad()
    def wrong(self: SAELens, path: Path | str) -> Foreign:
        found = right(self, path)
        found.dictionary.get_parameter("encoder").mul_(1.01)
        return found

    command = ["import", "saelens", str(tmp_path / "theirs"), "--out"]
    assert main([*command, str(tmp_path / "right")]) == 0
    monkeypatch.setattr(SAELens, "open", wrong)
    assert main([*command, str(tmp_path / "wrong")]) == 3
    assert "nothing was saved" in capsys.readouterr().err and not (tmp_path / "wrong").exists()


def test_a_set_is_exported_from_a_folder_of_dictionaries(tmp_path: Path):
    for layer in range(2):
        artifact.save(transcoder(10, 10, layer=layer, activation="relu_l1"), tmp_path / "fits" / f"layer{layer}")
    command = ["export", "circuit_tracer", str(tmp_path / "fits"), "--out", str(tmp_path / "set")]
    assert main(command) == 3, "mlp_out has no name there"
    assert main([*command, "--writes", "blocks.0.hook_mlp_out"]) == 0
    assert CircuitTracer(layer=1).read(tmp_path / "set").n_latents == 40


def test_one_across_layers_goes_out_and_comes_back_measured_on_the_model(tmp_path: Path, capsys):
    sites = load("pocket").sites
    width, layers = sites[Site("mlp_in", 0)].width, sum(site.kind == "mlp_in" for site in sites)
    artifact.save(cross_layer(width, 16, layers, activation="relu_l1"), tmp_path / "clt")
    hooks = ["--writes", "blocks.0.hook_mlp_out"]
    assert main(["export", "circuit_tracer", str(tmp_path / "clt"), "--out", str(tmp_path / "theirs"), *hooks]) == 0
    command = ["import", "circuit_tracer", str(tmp_path / "theirs"), "--out", str(tmp_path / "ours"), "--model", "pocket"]
    capsys.readouterr()
    assert main([*command, "--rows", "300", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert max(found["error"]["codes"], found["error"]["reconstruction"]) <= CLOSE and found["error"]["rows"] == 300
    assert found["reads"] == ", ".join(f"layers.{layer}.mlp_in" for layer in range(layers))
    assert found["latents"] == 16 * layers


@pytest.mark.parametrize(
    "arguments, code, says",
    [
        (["import", "saelens", "nowhere", "--out", "x"], 3, "no cfg.json"),
        (["import", "saelens", "nowhere", "--out", "x", "--layer", "3"], 2, "--layer"),
        (["import", "sealens", "nowhere", "--out", "x"], 3, "did you mean saelens"),
        (["import", "saelens", "nowhere"], 2, "import --help"),
        (["export", "saelens", "nowhere", "--out", "x"], 3, "holds no artifact"),
    ],
)
def test_mistakes_end_in_a_sentence(arguments: list[str], code: int, says: str, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    assert says in capsys.readouterr().err.replace("\n", " ")


def test_statements_are_names_and_values(tmp_path: Path, capsys):
    artifact.save(autoencoder("topk"), tmp_path / "sae")
    command = ["export", "saelens", str(tmp_path / "sae"), "--out", str(tmp_path / "x"), "--about", "model_name"]
    assert main(command) == 2
    assert "NAME=VALUE" in capsys.readouterr().err


def test_a_store_of_other_rows_is_refused(tmp_path: Path, capsys):
    SAELens().write(autoencoder("topk", d=5), tmp_path / "theirs")
    command = ["import", "saelens", str(tmp_path / "theirs"), "--out", str(tmp_path / "x")]
    assert main([*command, "--model", "pocket-mini", "--reads", "layers.0.resid_post"]) == BadInput.exit_code
    assert "in width 5" in capsys.readouterr().err.replace("\n", " ")
