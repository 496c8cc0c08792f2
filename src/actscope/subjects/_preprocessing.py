"""What a model of images was trained to be given, as its folder says."""

from pathlib import Path
from typing import Any

from actscope.core import files

_FILTERS = {0: "nearest", 2: "bilinear", 3: "bicubic"}


def preprocessing(folder: Path) -> dict[str, Any] | None:
    """The settings of `corpora.images.images` that a folder's preprocessor_config.json stands for; None without that file, and
    where it asks for more than resizing, cutting out the middle and normalising."""
    path = folder / "preprocessor_config.json"
    told = files.read_json(path) if path.is_file() else {}
    steps = [told.get(step, True) for step in ("do_resize", "do_rescale", "do_normalize")]
    if "image_mean" not in told or "image_std" not in told or not all(steps) or told.get("resample", 2) not in _FILTERS:
        return None
    size = told.get("size")
    cut = told.get("crop_size") if told.get("do_center_crop", "crop_size" in told) else None
    shorter = None if cut is None else size.get("shortest_edge") if isinstance(size, dict) else size
    kept = _pair(size if cut is None else cut)
    if kept is None or (cut is not None and not isinstance(shorter, int)):
        return None
    mean, std = tuple(map(float, told["image_mean"])), tuple(map(float, told["image_std"]))
    return {"size": kept, "mean": mean, "std": std, "resize": shorter, "filter": _FILTERS[told.get("resample", 2)]}


def _pair(size: Any) -> tuple[int, int] | None:
    """(height, width), or None where it says neither."""
    if isinstance(size, int):
        return size, size
    if isinstance(size, dict) and {"height", "width"} <= set(size):
        return int(size["height"]), int(size["width"])
    return None
