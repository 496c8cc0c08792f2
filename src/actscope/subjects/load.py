"""Open a model: a built-in one, a transformers folder, or a hub id."""

import re
from importlib.resources import files as package_files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from actscope.core.errors import BadInput, MissingExtra, NotAModel, NotFinite, nearest
from actscope.subjects._classes import classes_of, only_the_head
from actscope.subjects._folder import Stored, check_memory, inspected
from actscope.subjects._preprocessing import preprocessing
from actscope.subjects.hf import HFSubject

__all__ = ["load"]

BUILT_IN = ("pocket", "pocket-mini")
_DTYPES = ("float32", "bfloat16", "float16", "float64")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_PATTERNS = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]


def load(name: str | Path, *, device: str = "cpu", dtype: str = "float32", revision: str | None = None) -> HFSubject:
    """Open a model as a subject.

    name: "pocket", "pocket-mini", "pocket-mini@STEP" (a checkpoint of its training), a transformers folder with safetensors
    weights, or a hub id such as "EleutherAI/pythia-70m". revision: of a hub id. Without tokenizer files, only text is refused.
    device: "cpu", "cuda", "cuda:1"; "auto" spreads a model that is too large for one over all that are here, as transformers
    places it (with the package accelerate); what is read then stands on the device of its layer.
    A folder opens as the class of transformers that its config.json names, where this version reads that; weights without the
    head that the class has are those of the model below it.

    Raises NotAModel for what holds no model we can read (no folder, no config.json, another family, pickled weights, code
    of its own), NotFinite naming the tensor for NaN or infinity in the weights, BadInput for other settings that cannot be.
    """
    name = str(name)
    kind = _dtype(dtype)
    target = None if device == "auto" else _device(device)
    if target is None and find_spec("accelerate") is None:
        raise MissingExtra(
            "device='auto' needs the package accelerate; type `pip install 'actscope[large]'`, or give one device."
        )
    folder, weights, shown = _find(name, revision)
    stored = inspected(folder, weights, shown)
    model = _model(folder, weights, kind, stored, shown, "auto" if target is None else None)
    _check_placed(model, shown)
    _check_finite(model, shown)
    subject = HFSubject(model if target is None else model.to(target), _tokenizer(folder, shown), shown)
    subject.preprocessing = preprocessing(folder)
    return subject


def checkpoints(name: str | Path) -> list[tuple[int, str]]:
    """(step, name to `load`) of the checkpoints of a model's training, in order: those of a built-in model, or the folders
    step-N and checkpoint-N of a folder, as trainers save them. None for a name that already stands for one checkpoint."""
    name = str(name)
    if name in BUILT_IN:
        folder = Path(str(package_files("actscope").joinpath("organisms", "weights", name)))
        return [(step, f"{name}@{step}") for step in sorted(_steps(folder))]
    path = Path(name).expanduser()
    found = _steps(path) if path.is_dir() else {}
    return [(step, str(found[step])) for step in sorted(found) if (found[step] / "config.json").is_file()]


def _steps(folder: Path) -> dict[int, Path]:
    """Step -> folder of every checkpoint in a folder."""
    named = ((re.fullmatch(r"(?:step|checkpoint)-(\d+)", path.name), path) for path in folder.iterdir() if path.is_dir())
    return {int(match[1]): path for match, path in named if match}


def _find(name: str, revision: str | None) -> tuple[Path, Path, str]:
    """(folder of config and tokenizer, folder of weights, name to show)."""
    base, _, step = name.partition("@")
    local = base in BUILT_IN or (bool(name) and Path(name).expanduser().exists()) or not _HUB_ID.fullmatch(name)
    if local and revision is not None:
        raise BadInput(f"revision={revision!r} was given with {name!r}; a revision belongs to a hub id, not to a folder.")
    if base in BUILT_IN:
        folder = Path(str(package_files("actscope").joinpath("organisms", "weights", base)))
        if not (folder / "config.json").is_file():
            raise NotAModel(f"The built-in model {base!r} is not in this installation; expected its weights in {folder}.")
        return (folder, _checkpoint(folder, base, step), name) if step else (folder, folder, name)
    path = Path(name).expanduser()
    if name and path.is_dir():
        return path, path, path.resolve().name
    if name and path.exists():
        raise NotAModel(f"{name} is a file; expected a transformers folder with config.json and model.safetensors.")
    if local:
        raise NotAModel(
            f"There is no folder {name!r}; expected a transformers folder, a hub id, or one of {', '.join(BUILT_IN)}."
        )
    folder = _download(name, revision)
    return folder, folder, name


def _checkpoint(folder: Path, base: str, step: str) -> Path:
    steps = sorted(_steps(folder))
    if not step.isdigit() or int(step) not in steps:
        has = f"steps {', '.join(map(str, steps))}" if steps else "no checkpoints"
        raise NotAModel(f"{base!r} has no checkpoint {step!r}; it has {has}.")
    return folder / f"step-{int(step):06d}"


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_PATTERNS))
    except Exception as error:  # many kinds, of several packages: offline, no such id, no permission
        reason = str(error).strip().split("\n")[0]
        raise NotAModel(
            f"{name!r} is neither a built-in model nor a folder here{nearest(name, BUILT_IN)} As a hub id it could not be "
            f"fetched ({type(error).__name__}: {reason:.200}). Give a folder, check the id, or connect to the network."
        ) from error


def _model(folder: Path, weights: Path, dtype: torch.dtype, stored: Stored, shown: str, placed: str | None) -> Any:
    from transformers import AutoConfig, GenerationConfig
    from transformers.utils import logging

    bar, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # what weights lack is told below
    model: Any = None
    lacking: list[str] = []
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        for kind in (kinds := classes_of(config, shown)):
            check_memory(kind, config, dtype, stored, shown)
            more: dict[str, Any] = {} if placed is None else {"device_map": placed}
            more |= {"generation_config": GenerationConfig()} if kind.can_generate() else {}  # weights alone have none
            model, notes = kind.from_pretrained(
                weights,
                config=config,
                dtype=dtype,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                **more,
            )
            lacking = sorted(notes["missing_keys"]) + sorted(str(key[0]) for key in notes["mismatched_keys"])
            if kind is kinds[-1] or not only_the_head(lacking, model):
                break
    except NotAModel:
        raise
    except Exception as error:  # whatever a broken file makes transformers, torch or safetensors raise
        raise NotAModel(f"{shown} could not be opened ({type(error).__name__}: {str(error).strip():.300}).") from error
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
    if lacking:
        raise NotAModel(
            f"The weights of {shown} lack {len(lacking)} tensors of its config, such as {lacking[0]}; get them again."
        )
    return model.requires_grad_(False)


def _check_placed(model: Any, shown: str) -> None:
    """Every weight must stand on some device; what transformers would fetch from memory or disk at every run is refused."""
    away = [name for name, tensor in model.named_parameters() if tensor.is_meta]
    if away:
        raise BadInput(
            f"The devices here have no room for {len(away)} of the tensors of {shown}, such as {away[0]}; give "
            "dtype='bfloat16', or a machine with more."
        )


def _check_finite(model: torch.nn.Module, shown: str) -> None:
    for name, tensor in model.state_dict().items():
        if tensor.numel() and tensor.is_floating_point() and not all(bool(edge.isfinite()) for edge in tensor.aminmax()):
            raise NotFinite(
                f"The tensor {name} of {shown} holds NaN or infinity; expected finite weights. Get the model again."
            )


def _tokenizer(folder: Path, shown: str) -> Any:
    """The tokenizer exactly as tokenizer.json says (its own post-processor included), or None where there is none."""
    if not (folder / "tokenizer.json").is_file():
        return None
    from transformers import PreTrainedTokenizerFast

    try:
        return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever a broken file makes tokenizers raise
        raise NotAModel(f"tokenizer.json of {shown} could not be read ({type(error).__name__}: {str(error):.200}).") from error


def _dtype(name: str) -> torch.dtype:
    if name not in _DTYPES:
        raise BadInput(f"dtype={name!r}{nearest(name, _DTYPES)} Expected one of {', '.join(_DTYPES)}.")
    return getattr(torch, name)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BadInput(
            f"device={name!r} cannot be used here ({str(error).strip().splitlines()[0]:.150}); try device='cpu'."
        ) from error
    return device
