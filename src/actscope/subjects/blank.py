"""A model of some shape with random weights, to measure what it costs."""

import copy
from pathlib import Path
from typing import Any

import torch

from actscope.core import methods
from actscope.core.errors import BadInput, NotAModel
from actscope.subjects.hf import HFSubject
from actscope.subjects.load import _device, _dtype, _find, _tokenizer

__all__ = ["blank"]


def blank(
    name: str | Path, *, layers: int | None = None, device: str = "cpu", dtype: str = "float32", revision: str | None = None
) -> HFSubject:
    """A subject with the shape of a model and random weights, so that no weights are needed to time it or to count it.

    name: as for `load`; of a folder config.json is enough. layers: only the first so many. device="meta": shapes alone, which
    cannot be run. The tokenizer is the model's own where it has one.
    Raises NotAModel for what is no language model we know, BadInput for layers that it does not have.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    folder, _, shown = _find(str(name), revision)
    config: Any = copy.deepcopy(AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False))
    known = methods.names("subjects.anatomy")
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or config.model_type not in known:
        raise NotAModel(
            f"{shown} is of family {config.model_type!r}; expected a language model whose cost can be planned "
            f"without its weights, of one of the families {', '.join(known)}."
        )
    if layers is not None:
        _cut(config, layers, shown)
    kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    with torch.random.fork_rng(devices=[]), torch.device(device if device == "meta" else _device(device)):
        torch.manual_seed(0)
        model = kind(config).to(_dtype(dtype)).requires_grad_(False)
    return HFSubject(model, None if device == "meta" else _tokenizer(folder, shown), shown)


def _cut(config: Any, layers: int, shown: str) -> None:
    whole = config.num_hidden_layers
    if not 1 <= layers <= whole:
        raise BadInput(f"layers={layers} was given; {shown} has {whole}.")
    kinds = getattr(config, "layer_types", None)
    config.num_hidden_layers = layers
    if kinds is not None:
        config.layer_types = list(kinds)[:layers]
