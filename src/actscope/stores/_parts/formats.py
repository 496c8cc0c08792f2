"""How rows stand in a store, and how they come back: always as float32 where a format was asked for.

    format     bytes a number   rounds a number by at most
    float32    4                nothing
    bfloat16   2                2^-8 of itself
    float16    2                2^-11 of itself from 6e-5 on, 3e-8 below; nothing over 65,504 fits
    int8       1                1/254 of the largest number of its row; beside each row stands a float32 scale

Letters: n rows, d width.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from actscope.core.errors import BadInput

FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "int8": torch.int8}
_LEVELS = 127


def known(dtype: str | None) -> None:
    """Raises BadInput for a format there is not."""
    if dtype is not None and dtype not in FORMATS:
        raise BadInput(f"dtype={dtype!r} was given; rows are kept as {', '.join(FORMATS)}, or as they are read (None).")


def bytes_of(width: int, dtype: str | None, own: torch.dtype) -> int:
    """Bytes of a row of so many numbers; own: what the subject gives."""
    if dtype is None:
        return width * own.itemsize
    return width * FORMATS[dtype].itemsize + (4 if dtype == "int8" else 0)


def stored(port: str, x: Float[Tensor, "n d"], dtype: str) -> dict[str, Tensor]:
    """The tensors that stand for the rows of a port: "acts.<port>" and, for int8, "scale.<port>" Float32[n]. What does not
    fit float16 becomes infinite."""
    if dtype != "int8":
        return {f"acts.{port}": x.to(FORMATS[dtype])}
    x = x.float()
    scale = x.abs().amax(1) / _LEVELS if x.shape[1] else x.new_zeros(len(x))
    levels = (x / torch.where(scale > 0, scale, 1)[:, None]).round().clamp(-_LEVELS, _LEVELS)
    return {f"acts.{port}": levels.to(torch.int8), f"scale.{port}": scale}


def back(x: Float[Tensor, "n d"] | Int[Tensor, "n d"], scale: Float[Tensor, " n"] | None) -> Float[Tensor, "n d"]:
    """The rows as float32. scale: of int8 rows."""
    return x.float() if scale is None else x.float() * scale[:, None]
