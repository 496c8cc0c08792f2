"""circuit-tracer's cross-layer transcoders: config.yaml, and for each layer l of L the files W_enc_l and W_dec_l.

1. z_l = relu(x_l W_enc_l^T + b_enc_l), or where that is above threshold_l. W_enc_l is [m d].
2. y_l = sum over l' <= l of z_l' W_dec_l'[:, l - l'] + b_dec_l. W_dec_l' is [m, L - l', d]: by the layer it comes from,
   its own and the later ones in order.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from actscope.core import files
from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput
from actscope.core.site import Port
from actscope.dictionaries.cross_layer_transcoder import CrossLayerTranscoder
from actscope.interop._parts import format as shared
from actscope.interop._parts import formula, rules
from actscope.interop._parts.formula import Chosen, Formula, Given


def tensors(path: Path) -> list[dict[str, Tensor]]:
    """Every layer's W_enc, b_enc, b_dec, W_dec and, where there is one, threshold, in single precision.

    Raises BadInput for layers or tensors that are missing, that do not fit each other, or that let negative codes through.
    """
    numbers = sorted(int(file.stem[6:]) for file in path.glob("W_enc_*.safetensors") if file.stem[6:].isdigit())
    if numbers != list(range(len(numbers))) or len(numbers) < 2:
        raise BadInput(f"{path} holds W_enc of the layers {numbers}; expected every layer from 0 on, two or more.")
    layers = []
    for number in numbers:
        encoding = shared.tensors(path / f"W_enc_{number}.safetensors")
        shared.only(encoding, [f"{name}_{number}" for name in ("W_enc", "b_enc", "b_dec")], [f"threshold_{number}"])
        decoding = shared.tensors(path / f"W_dec_{number}.safetensors")
        shared.only(decoding, [f"W_dec_{number}"])
        found = {name.rpartition("_")[0]: value for name, value in shared.floats(encoding | decoding).items()}
        layers.append({**found, "threshold": found["threshold"].flatten()} if "threshold" in found else found)
    _fitting(layers)
    return layers


def _fitting(layers: list[dict[str, Tensor]]) -> None:
    m, d = layers[0]["W_enc"].shape
    for number, w in enumerate(layers):
        expected = {"W_enc": (m, d), "b_enc": (m,), "b_dec": (d,), "W_dec": (m, len(layers) - number, d)}
        expected |= {"threshold": (m,)} if "threshold" in layers[0] else {}
        if (found := {name: tuple(value.shape) for name, value in w.items()}) != expected:
            raise BadInput(f"Layer {number} holds tensors of the shapes {found}; expected {expected}.")
        if "threshold" in w and float(w["threshold"].min()) < 0:
            raise BadInput("Thresholds below 0 let negative codes through in circuit-tracer; actscope's codes are above 0.")


@torch.no_grad()
def dictionary(layers: list[dict[str, Tensor]], reads: list[Port], writes: list[Port]) -> Dictionary:
    """Ours, computing the same."""
    m, d = layers[0]["W_enc"].shape
    rule = "jumprelu" if "threshold" in layers[0] else "relu"
    made = CrossLayerTranscoder(
        reads=dict.fromkeys(reads, d),
        writes=dict.fromkeys(writes, d),
        n_latents=m * len(layers),
        activation=rules.METHOD[rule],
    )
    state = {"centre": torch.cat([w["b_dec"] for w in layers])}
    for number, w in enumerate(layers):
        rows = {"threshold": w["threshold"]} if rule == "jumprelu" else {}
        own = {"encoder": w["W_enc"], "bias": w["b_enc"], "decoder": w["W_dec"].flatten(1)}
        own |= {f"select.{name}": value for name, value in rules.state(rule, rows, d).items()}
        state |= {f"layers.{number}.{name}": value for name, value in own.items()}
    made.load_state_dict({**made.state_dict(), **state})
    return made.eval()


def given_by(layers: list[dict[str, Tensor]]) -> Formula:
    """Theirs: rows of all layers side by side -> codes of all layers side by side, and what is written at each."""
    d = layers[0]["W_enc"].shape[1]

    def given(x: Tensor) -> Given:
        y = torch.cat([w["b_dec"] for w in layers]).repeat(len(x), 1)
        chosen = []
        for number, (w, part) in enumerate(zip(layers, x.split(d, dim=1), strict=True)):
            pre = part @ w["W_enc"].T + w["b_enc"]
            chosen.append(formula.jumprelu(pre, w["threshold"]) if "threshold" in w else formula.relu(pre))
            y[:, number * d :] += torch.einsum("nm,mlo->nlo", chosen[-1].codes, w["W_dec"]).flatten(1)
        return Given(Chosen(*(torch.cat(parts, dim=1) for parts in zip(*chosen, strict=True))), y)

    return given


def ports(first: Port, layers: int) -> list[Port]:
    """The same kind of site in every layer from 0 on."""
    return [Port(replace(first.site, layer=number)) for number in range(layers)]


def write(made: CrossLayerTranscoder, path: Path) -> None:
    """The files of all layers, scales multiplied out in double precision. Raises BadInput, before anything is written, where
    circuit-tracer could not hold it."""
    tensors = _in_units(made)
    for name, one in tensors.items():
        files.write_tensors(path / f"{name}.safetensors", {key: value.float().contiguous() for key, value in one.items()})


def _in_units(made: CrossLayerTranscoder) -> Mapping[str, dict[str, Tensor]]:
    reads, writes = list(made.reads), list(made.writes)
    kinds = {(port.site.kind, port.site.part, made.reads[port]) for port in reads}
    kinds_out = {(port.site.kind, port.site.part, made.writes[port]) for port in writes}
    sizes = torch.bincount(made.layer_of).tolist()
    placed = [port.site.layer for port in reads] == list(range(len(reads))) == [port.site.layer for port in writes]
    widths = {*made.reads.values(), *made.writes.values()}
    if not placed or len(kinds) > 1 or len(kinds_out) > 1 or len(set(sizes)) > 1 or len(widths) > 1 or made.joint:
        raise BadInput(
            "circuit-tracer takes a cross-layer transcoder of every layer from 0 on, with equally many latents a layer, "
            "between the same kinds of site of one width, each layer choosing by itself; this one reads "
            f"{', '.join(map(str, reads))}, writes {', '.join(map(str, writes))}, has {sizes} latents and joint={made.joint}."
        )
    state = {name: value.detach().double().cpu() for name, value in made.state_dict().items()}
    unit, d = made.unit.detach().double().cpu(), widths.pop()
    starts = [0, *torch.tensor(sizes).cumsum(0).tolist()]
    found: dict[str, dict[str, Tensor]] = {}
    for number, (begin, end) in enumerate(pairwise(starts)):
        own = {name.removeprefix(f"layers.{number}."): value for name, value in state.items()}
        scale = state["scale_read"][number * d : (number + 1) * d]
        rule, _, rows = rules.of(made.layers[number].select, unit, d)  # type: ignore[arg-type]
        if rule not in ("relu", "jumprelu"):
            raise BadInput(f"circuit-tracer takes relu or thresholded codes; this one chooses by {rule}.")
        encoding = {
            f"W_enc_{number}": own["encoder"] * (unit / scale),
            f"b_enc_{number}": (own["bias"] - own["encoder"] @ own["mean"]) * unit,
            f"b_dec_{number}": (state["scale_written"] * state["centre"])[number * d : (number + 1) * d],
        }
        if rule == "jumprelu":
            encoding[f"threshold_{number}"] = rows["threshold"].expand(end - begin)
        written = own["decoder"] * (state["scale_written"][number * d :] / unit)
        found[f"W_enc_{number}"] = encoding
        found[f"W_dec_{number}"] = {f"W_dec_{number}": written.view(end - begin, len(reads) - number, d)}
    return found
