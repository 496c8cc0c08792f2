"""Run by the interpreter of circuit-tracer's own environment: `circuit_tracer_side.py write DIR`, or `read DIR`.

write: DIR/<case>/ with what the package saved, and truth.safetensors with codes_<layer> and output_<layer> for rows x; where
one transcoder goes across the layers, x, codes and output hold all layers side by side.
read: the same folders hold our files and x.safetensors; puts truth.safetensors beside them.
"""

import json
import sys
import warnings
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file, save_file

warnings.simplefilter("ignore")
from circuit_tracer.transcoder.activation_functions import JumpReLU
from circuit_tracer.transcoder.cross_layer_transcoder import CrossLayerTranscoder, load_clt
from circuit_tracer.transcoder.single_layer_transcoder import (
    SingleLayerTranscoder,
    TranscoderSet,
    load_transcoder_set,
)

D, M, N, LAYERS = 24, 96, 256, 3
HOOKS = {"feature_input_hook": "ln2.hook_normalized", "feature_output_hook": "hook_mlp_out"}


@torch.no_grad()
def truth(folder: Path, x: torch.Tensor) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    if config["model_kind"] == "cross_layer_transcoder":
        return truth_across(folder, config, x)
    names = sorted(folder.glob("layer_*.safetensors"), key=lambda path: int(path.stem[6:]))
    hooks = {name: config[name] for name in HOOKS}
    held = load_transcoder_set(dict(enumerate(map(str, names))), scan="", device=torch.device("cpu"), **hooks)
    found = {"x": x}
    for layer, one in enumerate(held):
        found[f"codes_{layer}"] = one.encode(x).contiguous()
        found[f"output_{layer}"] = one(x).contiguous()
    save_file(found, folder / "truth.safetensors")


@torch.no_grad()
def truth_across(folder: Path, config: dict, x: torch.Tensor) -> None:
    hooks = {name: config[name] for name in HOOKS}
    held = load_clt(str(folder), **hooks, device=torch.device("cpu"), dtype=torch.float32, lazy_decoder=False)
    given = torch.stack(x.split(x.shape[1] // held.n_layers, dim=1))
    codes = held.encode(given)
    output = held.decode(codes.to_sparse())
    found = {"x": x, "codes": torch.cat(tuple(codes), 1), "output": torch.cat(tuple(output), 1)}
    save_file({name: value.contiguous() for name, value in found.items()}, folder / "truth.safetensors")


@torch.no_grad()
def write_across(folder: Path, jump: bool) -> None:
    torch.manual_seed(int(jump))
    rule = "jump_relu" if jump else "relu"
    one = CrossLayerTranscoder(LAYERS, M, D, rule, lazy_decoder=False, device=torch.device("cpu"), dtype=torch.float32, **HOOKS)
    for name, value in one.named_parameters():
        value.copy_(2 * torch.rand(value.shape) if "threshold" in name else 0.3 * torch.randn(value.shape))
    one.to_safetensors(str(folder))
    config = {"model_name": "pythia-70m", "model_kind": "cross_layer_transcoder", "scan": "", **HOOKS}
    (folder / "config.yaml").write_text(json.dumps(config))
    truth(folder, 2 * torch.randn(N, D * LAYERS) + 0.5)


@torch.no_grad()
def main(what: str, root: Path) -> None:
    if what == "write":
        for case, (jump, skip) in {"relu": (False, False), "jumprelu_skip": (True, True)}.items():
            torch.manual_seed(len(case))
            layers = {}
            for layer in range(LAYERS):
                chosen = JumpReLU(2 * torch.rand(M), 0.1) if jump else torch.nn.functional.relu
                one = SingleLayerTranscoder(D, M, chosen, layer, skip, device=torch.device("cpu"), dtype=torch.float32)
                for name, value in one.named_parameters():
                    if "threshold" not in name:
                        value += 0.5 * torch.randn(value.shape)
                layers[layer] = one
            TranscoderSet(layers, **HOOKS).to_safetensors(str(root / case))
            config = {"model_name": "pythia-70m", "model_kind": "transcoder_set", "scan": "", **HOOKS}
            (root / case / "config.yaml").write_text(json.dumps(config))
            truth(root / case, 2 * torch.randn(N, D) + 0.5)
        for jump in (False, True):
            write_across(root / f"across_{'jumprelu' if jump else 'relu'}", jump)
    else:
        for folder in sorted(path.parent for path in root.glob("*/x.safetensors")):
            truth(folder, load_file(folder / "x.safetensors")["x"])


main(sys.argv[1], Path(sys.argv[2]))
