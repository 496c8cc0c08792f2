"""circuit-tracer's transcoders: a set with one a layer, config.yaml and layer_0.safetensors, layer_1.safetensors..., or one
across the layers (_parts/cross_layer.py).

    1. z = relu(x W_enc^T + b_enc), or where that is above activation_function.threshold. W_enc is [m d], unlike SAELens's.
    2. y = z W_dec + b_dec (+ x W_skip^T).

config.yaml names the places once for all layers: feature_input_hook and feature_output_hook. Every layer from 0 on must be
there, with equally many latents. A set is read a layer at a time, and written from all its transcoders at once.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from actscope.core import files
from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput, Corrupt
from actscope.core.site import Port, Site, SiteInfo
from actscope.dictionaries.cross_layer_transcoder import CrossLayerTranscoder
from actscope.interop._parts import cross_layer, formula
from actscope.interop._parts import format as shared
from actscope.interop._parts.format import Foreign, Format
from actscope.interop._parts.formula import Formula, Given
from actscope.interop._parts.plain import Plain, plain

__all__ = ["CircuitTracer"]

NEEDED = ["W_enc", "W_dec", "b_enc", "b_dec"]
THRESHOLD = "activation_function.threshold"
SET, CROSS_LAYER = "transcoder_set", "cross_layer_transcoder"


class CircuitTracer(Format):
    """circuit-tracer: sets of transcoders with one a layer, relu or thresholded, with or without a skip path, and cross-layer
    transcoders, both ways.

    layer: the one to read of a set. reads, writes: sites, where others than those of config.yaml are meant (across layers:
    those of layer 0); in writing, the hooks that the sites of layer 0 are. sites: of the subject.
    """

    def __init__(
        self,
        *,
        reads: str | Site | None = None,
        writes: str | Site | None = None,
        sites: Mapping[Site, SiteInfo] | None = None,
        layer: int | None = None,
    ):
        super().__init__(reads=reads, writes=writes, sites=sites)
        self.layer = layer

    def open(self, path: Path | str) -> Foreign:
        path = Path(path)
        config = _config(path / "config.yaml")
        if config["model_kind"] == CROSS_LAYER:
            return self._across(path, config)
        layers = sorted(int(file.stem[6:]) for file in path.glob("layer_*.safetensors") if file.stem[6:].isdigit())
        layer = layers[0] if self.layer is None and len(layers) == 1 else self.layer
        if layer not in layers:
            raise BadInput(f"{path} holds the layers {layers} and layer={layer} was given; give one of them.")
        found = shared.tensors(path / f"layer_{layer}.safetensors")
        shared.only(found, NEEDED, ["W_skip", THRESHOLD])
        dtype, w = str(found["W_dec"].dtype).removeprefix("torch."), shared.floats(found)
        if THRESHOLD in w and float(w[THRESHOLD].min()) < 0:
            raise BadInput("Thresholds below 0 let negative codes through in circuit-tracer; actscope's codes are above 0.")
        read = self.port("reads", _hook(config, "feature_input_hook", layer), "in")
        write = self.port("writes", _hook(config, "feature_output_hook", layer))
        made = Plain(
            reads=(read, w["W_enc"].shape[1]),
            writes=(write, w["W_dec"].shape[1]),
            encoder=w["W_enc"],
            bias=w["b_enc"],
            before=torch.zeros(w["W_enc"].shape[1]),
            decoder=w["W_dec"],
            after=w["b_dec"],
            rule="jumprelu" if THRESHOLD in w else "relu",
            rows={"threshold": w[THRESHOLD]} if THRESHOLD in w else {},
            skip=w.get("W_skip"),
        )
        return Foreign(made.dictionary(), _numerics(config, dtype=dtype, layer=layer), _formula(w))

    def _across(self, path: Path, config: Mapping[str, Any]) -> Foreign:
        if self.layer is not None:
            raise BadInput(f"{path} holds one transcoder across all layers; leave layer={self.layer} out.")
        layers = cross_layer.tensors(path)
        reads = cross_layer.ports(self.port("reads", _hook(config, "feature_input_hook", 0), "in"), len(layers))
        writes = cross_layer.ports(self.port("writes", _hook(config, "feature_output_hook", 0)), len(layers))
        made = cross_layer.dictionary(layers, reads, writes)
        return Foreign(made, _numerics(config), cross_layer.given_by(layers))

    def write(
        self, dictionary: Dictionary | Sequence[Dictionary], path: Path | str, *, about: Mapping[str, object] | None = None
    ) -> None:
        """The whole set at once. about: model_name and scan, for config.yaml. Raises BadInput unless these are transcoders of
        every layer from 0 on, all between the same two kinds of site and equally wide, with relu or thresholded codes."""
        given, path = [dictionary] if isinstance(dictionary, Dictionary) else list(dictionary), Path(path)
        if len(given) == 1 and isinstance(given[0], CrossLayerTranscoder):
            config = self._stated(next(iter(given[0].reads)), next(iter(given[0].writes)), about, CROSS_LAYER)
            cross_layer.write(given[0], path)
            files.write_text(path / "config.yaml", config)
            return
        made = sorted((plain(one) for one in given), key=lambda one: one.reads[0].site.layer or 0)
        kinds = {(one.reads[0].site.kind, one.writes[0].site.kind, len(one.encoder), one.same) for one in made}
        rules, layers = {one.rule for one in made}, [(one.reads[0].site.layer, one.writes[0].site.layer) for one in made]
        if len(kinds) != 1 or made[0].same or rules - {"relu", "jumprelu"} or layers != [(i, i) for i in range(len(made))]:
            raise BadInput(
                "circuit-tracer takes one transcoder a layer, from layer 0 on without a gap, all between the same kinds of "
                "site, with equally many latents, and relu or thresholded codes; these read and write layers "
                f"{layers}, as (read, written, latents, autoencoder) {sorted(kinds)}, with {', '.join(sorted(rules))} codes."
            )
        config = self._stated(made[0].reads[0], made[0].writes[0], about, SET)
        for layer, one in enumerate(made):
            one = one.subtracting(torch.zeros_like(one.before)).single()
            tensors = {"W_enc": one.encoder, "W_dec": one.decoder, "b_enc": one.bias, "b_dec": one.after}
            tensors |= {THRESHOLD: one.rows["threshold"]} if one.rule == "jumprelu" else {}
            tensors |= {} if one.skip is None else {"W_skip": one.skip}
            files.write_tensors(path / f"layer_{layer}.safetensors", tensors)
        files.write_text(path / "config.yaml", config)

    def _stated(self, read: Port, write: Port, about: Mapping[str, object] | None, kind: str) -> str:
        """config.yaml. Raises BadInput for sites that TransformerLens has no name for."""
        config = {"model_name": "", "scan": "", **(about or {}), "model_kind": kind}
        config |= {"feature_input_hook": _general(self.named("reads", read))}
        config |= {"feature_output_hook": _general(self.named("writes", write))}
        return json.dumps(config, indent=1) + "\n"  # JSON is YAML


def _numerics(config: Mapping[str, Any], **more: object) -> dict[str, object]:
    numerics = {name: value for name, value in config.items() if name != "transcoders"}
    numerics |= {"format": "circuit_tracer", **more, "apply_b_dec_to_input": False}
    return shared.stated(numerics | {"normalize_activations": "none", "converted": []})


def _config(path: Path) -> dict[str, Any]:
    import yaml

    if not path.is_file():
        raise BadInput(f"There is no {path.name} in {path.parent}; expected the config.yaml of a circuit-tracer set.")
    try:
        config = yaml.safe_load(path.read_bytes())
    except yaml.YAMLError as error:
        raise Corrupt(f"{path} is not readable YAML ({error}).") from error
    kind = config.get("model_kind") if isinstance(config, dict) else None
    if kind not in (SET, CROSS_LAYER):
        raise BadInput(f"{path} says model_kind={kind!r}; expected {SET} or {CROSS_LAYER}.")
    return config


def _hook(config: Mapping[str, Any], name: str, layer: int) -> str:
    """The full name of a hook that config.yaml names without its layer."""
    hook = str(config.get(name) or "")
    return hook and f"blocks.{layer}.{hook}"


def _general(name: str) -> str:
    """A hook without its layer. Raises BadInput for a site that TransformerLens has no name for."""
    found = re.fullmatch(r"blocks\.\d+\.(.+)", name)
    if not found:
        raise BadInput(
            f"circuit-tracer names places by TransformerLens's hooks; {name} has none. Say which hook it is with reads= or "
            'writes=, such as writes="blocks.0.hook_mlp_out" where the model adds what its MLP puts out as it is.'
        )
    return found[1]


def _formula(w: Mapping[str, Tensor]) -> Formula:
    def given(x: Tensor) -> Given:
        pre = x @ w["W_enc"].T + w["b_enc"]
        chosen = formula.jumprelu(pre, w[THRESHOLD]) if THRESHOLD in w else formula.relu(pre)
        y = chosen.codes @ w["W_dec"] + w["b_dec"]
        return Given(chosen, y + x @ w["W_skip"].T if "W_skip" in w else y)

    return given
