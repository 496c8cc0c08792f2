"""What a model of images was trained to be given, as its folder says."""

from pathlib import Path
from typing import Any

from actscope.core import files
from actscope.core.errors import NotAModel

_FILTERS = {0: "nearest", 2: "bilinear", 3: "bicubic"}


def preprocessing(folder: Path, shown: str) -> dict[str, Any] | None:
    """The settings of `corpora.images.images` that a folder's preprocessor_config.json stands for; None without that file, or
    where it is not about images. Raises NotAModel for one that asks for more than resizing, cutting and normalising."""
    path = folder / "preprocessor_config.json"
    told = files.read_json(path) if path.is_file() else {}
    if "image_mean" not in told:
        return None
    cut = told.get("crop_size") if told.get("do_center_crop", "crop_size" in told) else None
    size = told.get("size")
    shorter = size.get("shortest_edge") if isinstance(size, dict) else size if cut is not None else None
    kept = _pair(cut if cut is not None else size)
    mean, std = told["image_mean"], told.get("image_std") or [1.0] * len(told["image_mean"])
    if told.get("do_normalize") is False:
        mean, std = [0.0] * len(mean), [1.0] * len(mean)
    if (
        kept is None
        or told.get("do_rescale") is False
        or told.get("do_resize") is False
        or told.get("resample", 2) not in _FILTERS
    ):
        raise NotAModel(
            f"{path.name} of {shown} asks for more than resizing, cutting and normalising ({str(told):.120}); give images("
            "size=, mean=, std=) what it should be."
        )
    return {
        "size": kept, "mean": tuple(mean), "std": tuple(std), "resize": shorter, "filter": _FILTERS[told.get("resample", 2)],
    }  # fmt: skip


def _pair(size: Any) -> tuple[int, int] | None:
    """(height, width), or None where it says neither."""
    if isinstance(size, int):
        return size, size
    if isinstance(size, dict) and {"height", "width"} <= set(size):
        return int(size["height"]), int(size["width"])
    return None
