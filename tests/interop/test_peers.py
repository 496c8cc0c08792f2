"""Files of the real packages, each written and read by its own interpreter (benchmarks/peers), against ours, both ways.

"The same" is 1e-5 of each row's length, for codes and for output; rows where a latent stands on the edge may go either way.
"""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from benchmarks.peers import environments
from interop_ours import CLOSE, autoencoder, cross_layer, rows, transcoder
from safetensors.torch import load_file
from torch import Tensor

from actscope.core import files, methods
from actscope.core.dictionary import Dictionary
from actscope.interop._parts.formula import Chosen, Fidelity, Formula, Given, fidelity
from actscope.interop.circuit_tracer import CircuitTracer
from actscope.interop.dictionary_learning import DictionaryLearning
from actscope.interop.saelens import SAELens
from actscope.interop.sparsify import Sparsify

pytestmark = pytest.mark.full
SIDES = {
    "sae-lens": "saelens", "eai-sparsify": "sparsify", "dictionary-learning": "dictionary_learning",
    "circuit-tracer": "circuit_tracer",
}  # fmt: skip
SAELENS = [
    "standard", "standard_uncentred", "topk", "topk_rescaled", "jumprelu", "gated", "transcoder", "skip_transcoder",
    "jumprelu_skip_transcoder", "trained_topk", "trained_batchtopk",
]  # fmt: skip
LEARNING = [
    "AutoEncoder", "AutoEncoderNew", "GatedAutoEncoder", "JumpReluAutoEncoder", "AutoEncoderTopK", "BatchTopKSAE",
    "MatryoshkaBatchTopKSAE",
]  # fmt: skip


def ask(peer: str, what: str, folder: Path) -> Path:
    """Have a peer write into, or read from, a folder. Skips where its environment was not made."""
    if not environments.ready(peer):
        pytest.skip(f"{peer}: no environment in {environments.folder()}; `make peers` makes it")
    script = Path(__file__).parent / "peers" / f"{SIDES[peer]}_side.py"
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    command = [str(environments.python_of(peer)), str(script), what, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=kept | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """peer -> the folder it wrote its cases into, once."""
    return cache(lambda peer: ask(peer, "write", tmp_path_factory.mktemp(SIDES[peer])))


def against(truth: dict[str, Tensor], ours: Dictionary, formula: Formula, suffix: str = "") -> Fidelity:
    """How far ours is from the numbers the peer itself gave; `formula` only says which latents stand on the edge."""
    theirs = Given(Chosen(truth[f"codes{suffix}"], formula(truth["x"]).chosen.margin), truth[f"output{suffix}"])
    assert len(truth["x"]) <= 512 and (truth[f"codes{suffix}"] != 0).any()
    return fidelity(ours, lambda x: theirs, truth["x"])


def check(truth: dict[str, Tensor], ours: Dictionary, formula: Formula, what: str, suffix: str = "") -> None:
    found = against(truth, ours, formula, suffix)
    line = f"{what}: codes {found.codes:.1e}, reconstruction {found.reconstruction:.1e}, {found.ties} ties of {found.rows}"
    sys.stdout.write(line + "\n")
    assert found.codes <= CLOSE and found.reconstruction <= CLOSE and found.ties <= 0.02 * found.rows
    given = formula(truth["x"])
    torch.testing.assert_close(given.output, truth[f"output{suffix}"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", SAELENS)
def test_saelens_files_give_its_own_codes(case: str, written):
    folder = written("sae-lens") / case
    found = SAELens().open(folder)
    check(load_file(folder / "truth.safetensors"), found.dictionary, found.formula, f"from saelens {case}")
    assert found.numerics["model_name"] == "pythia-70m" and found.numerics["prepend_bos"] is True


@pytest.mark.parametrize("case", ["autoencoder", "transcoder", "skip_transcoder"])
def test_sparsify_files_give_its_own_codes(case: str, written):
    folder = written("eai-sparsify") / case / "layers.2.mlp"
    found = Sparsify().open(folder)
    check(load_file(folder / "truth.safetensors"), found.dictionary, found.formula, f"from sparsify {case}")
    assert str(found.dictionary.write) == "module:layers.2.mlp:out"
    assert str(found.dictionary.read) == f"module:layers.2.mlp:{'out' if case == 'autoencoder' else 'in'}"


@pytest.mark.parametrize("case", LEARNING)
def test_dictionary_learning_files_give_its_own_codes(case: str, written):
    folder = written("dictionary-learning") / case
    found = DictionaryLearning(unpickle=True).open(folder)
    check(load_file(folder / "truth.safetensors"), found.dictionary, found.formula, f"from dictionary_learning {case}")
    assert str(found.dictionary.read) == "layers.3.resid_post"


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("case", ["relu", "jumprelu_skip"])
def test_circuit_tracer_files_give_its_own_codes(case: str, layer: int, written):
    folder = written("circuit-tracer") / case
    found = CircuitTracer(layer=layer).open(folder)
    truth = load_file(folder / "truth.safetensors")
    check(truth, found.dictionary, found.formula, f"from circuit-tracer {case} {layer}", f"_{layer}")
    assert (str(found.dictionary.read), str(found.dictionary.write)) == (f"layers.{layer}.mlp_in", f"layers.{layer}.mlp_add")


@pytest.mark.parametrize("case", ["across_relu", "across_jumprelu"])
def test_circuit_tracer_files_across_layers_give_its_own_codes(case: str, written):
    folder = written("circuit-tracer") / case
    found = CircuitTracer().open(folder)
    check(load_file(folder / "truth.safetensors"), found.dictionary, found.formula, f"from circuit-tracer {case}")
    assert [str(port) for port in found.dictionary.reads] == [f"layers.{layer}.mlp_in" for layer in range(3)]


def ours() -> dict[str, Dictionary]:
    made = {
        name: autoencoder(name, d=24, m=96) for name in ("relu_l1", "topk", "batch_topk", "jumprelu", "gated", "matryoshka")
    }
    for rule in ("relu_l1", "jumprelu"):
        made |= {
            f"{rule}_transcoder{'_skip' * skip}": transcoder(24, 20, 96, activation=rule, skip=skip) for skip in (False, True)
        }
    return made


def test_ours_load_in_saelens_and_give_ours(tmp_path: Path):
    made, x = ours(), rows(24, 300)
    for name, one in made.items():
        SAELens().write(one, tmp_path / name)
        files.write_tensors(tmp_path / name / "x.safetensors", {"x": x})
    ask("sae-lens", "read", tmp_path)
    for name, one in made.items():
        formula = SAELens().open(tmp_path / name).formula
        check(load_file(tmp_path / name / "truth.safetensors"), one, formula, f"to saelens {name}")


def test_ours_load_in_sparsify_and_give_ours(tmp_path: Path):
    made, x = {"topk": autoencoder("topk", d=24, m=96)}, rows(24, 300)
    made |= {f"transcoder_{skip}": transcoder(24, 24, 96, skip=skip) for skip in (False, True)}
    for name, one in made.items():
        Sparsify().write(one, tmp_path / name / "layers.2.mlp")
        files.write_tensors(tmp_path / name / "layers.2.mlp" / "x.safetensors", {"x": x})
    ask("eai-sparsify", "read", tmp_path)
    for name, one in made.items():
        folder = tmp_path / name / "layers.2.mlp"
        check(load_file(folder / "truth.safetensors"), one, Sparsify().open(folder).formula, f"to sparsify {name}")


@pytest.mark.parametrize("rule, skip", [("relu_l1", False), ("jumprelu", True)])
def test_ours_load_in_circuit_tracer_and_give_ours(rule: str, skip: bool, tmp_path: Path):
    built, x = methods.find("dictionaries", "transcoder"), rows(24, 300)
    made = [transcoder(24, 24, 96, layer, layer=layer, activation=rule, skip=skip) for layer in range(3)]
    assert all(isinstance(one, built) for one in made)  # type: ignore[arg-type]
    CircuitTracer(writes="blocks.0.hook_mlp_out").write(made, tmp_path / "set", about={"model_name": "pocket"})
    files.write_tensors(tmp_path / "set" / "x.safetensors", {"x": x})
    ask("circuit-tracer", "read", tmp_path)
    truth = load_file(tmp_path / "set" / "truth.safetensors")
    for layer, one in enumerate(made):
        formula = CircuitTracer(layer=layer).open(tmp_path / "set").formula
        check(truth, one, formula, f"to circuit-tracer {rule} {layer}", f"_{layer}")


@pytest.mark.parametrize("rule", ["relu_l1", "jumprelu"])
def test_ours_across_layers_load_in_circuit_tracer_and_give_ours(rule: str, tmp_path: Path):
    made = cross_layer(24, 96, activation=rule)
    CircuitTracer(writes="blocks.0.hook_mlp_out").write(made, tmp_path / "across", about={"model_name": "pocket"})
    files.write_tensors(tmp_path / "across" / "x.safetensors", {"x": rows(72, 300)})
    ask("circuit-tracer", "read", tmp_path)
    truth = load_file(tmp_path / "across" / "truth.safetensors")
    check(truth, made, CircuitTracer().open(tmp_path / "across").formula, f"to circuit-tracer across layers {rule}")
