"""A folder of images as a corpus: what is done to them on the way to a model is said, and is part of the fingerprint.

Each image is turned as its camera says, made RGB (or grey), resized to `size` (with `resize`: so that its shorter side is
that, and then cut to `size` around its middle), brought to 0..1, shifted by `mean` and divided by `std`, channel by channel.
"""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from actscope.core import files as disk
from actscope.core.corpus import Document
from actscope.core.errors import BadInput, UsageError
from actscope.corpora._parts.extra import package
from actscope.corpora._parts.folder import found_in

__all__ = ["images"]

_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")  # no other decoder of the package is ever asked
_MOST = 80_000_000  # pixels of one image
_LARGEST = 512 << 20  # bytes of its file
_FILTERS = ("bicubic", "bilinear", "nearest")


class Images:
    """The images of a folder, in the order of their names. A document's id is its name inside the folder, its family the
    first subfolder, "" where there is none; its text is empty."""

    def __init__(self, root: Path, found: list[Path], settings: dict[str, Any]):
        self.name = root.name
        self._root, self._found, self._settings = root, found, settings
        self._hashes = []
        for path in found:
            data = _read(path)
            self._hashes.append([self._shown(path), disk.sha256(data)])
            _opened(data, path)

    @property
    def fingerprint(self) -> str:
        """A hash of every image's name and bytes and of all that is done to them."""
        return disk.sha256(repr([self._hashes, sorted(self._settings.items())]).encode("utf-8", "surrogateescape"))

    def __len__(self) -> int:
        return len(self._found)

    def documents(self, start: int = 0) -> Iterator[Document]:
        """The images from number `start` on; those before it are not opened."""
        for path in self._found[start:]:
            shown = self._shown(path)
            family, parted, _ = shown.partition("/")
            yield Document(shown, "", family=family if parted else "", image=_prepared(path, **self._settings))

    def _shown(self, path: Path) -> str:
        return path.name if path == self._root else path.relative_to(self._root).as_posix()


def images(
    path: Path | str,
    *,
    size: int | tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    resize: int | None = None,
    filter: str = "bicubic",
) -> Images:
    """The Corpus of an image (.png .jpg .webp .bmp) or of every one in a folder and below, hidden ones left out.

    size: of what the model takes, in pixels (height and width where they differ). mean, std: of each channel, on the scale
    0..1; three of them for colours, one for grey. resize: the shorter side before the middle is cut out; when left out,
    images are resized to `size` whatever their shape. filter: "bicubic", "bilinear" or "nearest". A model opened by `load`
    says what it was trained with: images(path, **subject.preprocessing). Needs Pillow.

    Raises MissingExtra without it; UsageError for settings that cannot be; BadInput for what is no such image, has more than
    80 million pixels, or is a link out of the folder; EmptyCorpus for a folder without one.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1 or (resize is not None and resize < max(height, width)) or filter not in _FILTERS:
        raise UsageError(
            f"size={size}, resize={resize}, filter={filter!r}: expected sizes from 1, a resize= of at least the size, and one "
            f"of {', '.join(_FILTERS)}."
        )
    if len(mean) not in (1, 3) or len(std) != len(mean) or min(std) <= 0:
        raise UsageError(f"mean={mean}, std={std}: expected one number each (grey) or three (red, green, blue), std above 0.")
    root = Path(path).expanduser()
    settings = {"size": (height, width), "resize": resize, "filter": filter}
    settings |= {"mean": tuple(map(float, mean)), "std": tuple(map(float, std))}
    return Images(root, found_in(root, _ENDINGS, "image"), settings)


def _read(path: Path) -> bytes:
    if path.stat().st_size > _LARGEST:
        raise BadInput(f"{path} is {path.stat().st_size:,} bytes; expected an image of at most {_LARGEST:,}. Make it smaller.")
    return path.read_bytes()


def _opened(data: bytes, path: Path) -> Any:
    """The image, its header read and no pixel."""
    pillow = package("PIL.Image", "pillow", "images")
    try:
        image = pillow.open(io.BytesIO(data), formats=_FORMATS)
    except Exception as error:  # whatever a broken file makes the decoders raise
        raise BadInput(f"{path} is no image that can be read ({str(error):.120}); leave it out, or save it anew.") from error
    if image.width * image.height > _MOST:
        raise BadInput(f"{path} has {image.width:,} x {image.height:,} pixels; expected at most {_MOST:,}. Make it smaller.")
    return image


def _prepared(
    path: Path, *, size: tuple[int, int], resize: int | None, filter: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Tensor, "c h w"]:
    pillow, turned = package("PIL.Image", "pillow", "images"), package("PIL.ImageOps", "pillow", "images")
    image = _opened(_read(path), path)
    try:
        image = turned.exif_transpose(image).convert("RGB" if len(mean) == 3 else "L")
    except Exception as error:  # whatever a broken file makes the decoders raise
        raise BadInput(f"{path} is no whole image ({str(error):.120}); leave it out, or save it anew.") from error
    height, width = size
    scale = (resize or 0) / min(image.size)
    around = (width, height) if resize is None else (int(image.width * scale), int(image.height * scale))
    image = image.resize(around, getattr(pillow.Resampling, filter.upper()))
    left, top = (image.width - width) // 2, (image.height - height) // 2
    image = image.crop((left, top, left + width, top + height))
    channels = len(mean)
    raw = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).reshape(*size, channels).permute(2, 0, 1)
    shape = (channels, 1, 1)
    return (raw.float() / 255 - torch.tensor(mean).reshape(shape)) / torch.tensor(std).reshape(shape)
