"""The Triton kernels, where triton is installed: _triton_kernels.py, for arrays on a GPU that torch calls "cuda".

What they compute is tested in Triton's interpreter, on the CPU, and all of them compile for NVIDIA's sm_80 and sm_90; none has
been run on a GPU yet, so how fast they are is not known, and sizes of tiles and numbers of warps are reckoned, not measured.
On a GPU `pytest -m gpu` checks them and `python -m benchmarks.train --device cuda` measures them.

ACTSCOPE_KERNELS=off leaves them out. TRITON_INTERPRET=1, set before triton is imported, takes arrays on the CPU, slowly.
Letters: n rows, d width read, o width written, m latents, k active a row, nnz entries.
"""

import contextlib
import functools
import importlib
import importlib.util
import os
import warnings
from typing import Any

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.bfloat16)
WIDEST = 8192  # latents of a row that one program looks at, and keeps, at a time
TILE = 8192  # numbers that one program gathers at a time
MOST = TILE // 16  # active latents of a row whose atoms are gathered together


@functools.cache
def reason() -> str:
    """Why there are no Triton kernels; empty when there are."""
    if os.environ.get("ACTSCOPE_KERNELS") == "off":
        return "ACTSCOPE_KERNELS=off."
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed; pip install triton."
    try:
        one, other = (torch.ones(1, device=_device()) for _ in range(2))
        adam(one, other, other.clone(), other.clone(), None, False, (1.0, 0.0, 1.0, 0.9, 0.999, 1e-8))
    except Exception as error:  # of triton, its compiler, or the machine's own: all are a reason
        return f"triton does not run here ({type(error).__name__}: {error}); install the triton that this torch asks for."
    return ""


def wanted(*tensors: Tensor | None) -> bool:
    """Whether the kernels are there and these are arrays they take: on the GPU and contiguous."""
    kind = _device()
    return all(one is None or (one.device.type == kind and one.is_contiguous()) for one in tensors) and not reason()


@functools.cache
def say_once() -> None:
    """Tell the user that a path which has kernels runs without them, unless that was asked for."""
    if reason() and os.environ.get("ACTSCOPE_KERNELS") != "off":
        warnings.warn(f"Training on the GPU runs with torch's operators, without Triton kernels: {reason()}", stacklevel=3)


def topk(scores: Tensor, offset: int, index: Tensor, value: Tensor) -> None:
    """Of scores [n m], latents from `offset` on, and of what index and value [n k] hold of those before: the k largest above
    zero of every row. A row with a NaN gives NaN; where there are too few above zero, the lowest others with value 0."""
    low = 16 if scores.dtype == torch.bfloat16 else 0
    for start in range(0, scores.shape[1], WIDEST):
        part = scores[:, start : start + WIDEST]
        before, width = offset + start, part.shape[1]
        held, k = min(index.shape[1], before), min(index.shape[1], before + width)
        sizes = (part.stride(0), width, before, k, held, index.shape[1])
        wide = _power(width)
        kept = _power(held) if held else 0
        _run("topk", len(part), part, index, value, *sizes, WIDE=wide, KEPT=kept, LOW=low, num_warps=_warps(wide, 512))


def rebuild(
    index: Tensor, value: Tensor, atoms: Tensor, offset: Tensor, target: Tensor, factor: float, error: Tensor, slope: Tensor
) -> Tensor:
    """error [n o] and slope [n k] as ops/rebuild.py has them; returns |error|^2 of every row."""
    (n, k), o = index.shape, atoms.shape[1]
    squares = error.new_empty(n)
    kept = _power(k)
    wide = min(_power(o), TILE // kept)
    given = (index, value, atoms, offset, target, error, slope, squares, o, k, float(factor))
    _run("rebuild", n, *given, KEPT=kept, WIDE=wide, num_warps=_warps(kept * wide, 1024))
    return squares


def gather(
    ends: Tensor,
    index: Tensor,
    weight: Tensor,
    dense: Tensor,
    sums: Tensor,
    factor: float = 1.0,
    atoms: Tensor | None = None,
    squares: Tensor | None = None,
) -> None:
    """sums [rows d] = factor * the compressed rows (ends, index, weight) @ dense; with atoms [rows d], of length 1, less the
    part along each; squares: gets |sums|^2 of every row."""
    d = dense.shape[1]
    wide = min(_power(d), TILE // 16)
    given = (ends, index, weight, dense, atoms, sums, squares, d, float(factor))
    _run("gather", len(sums), *given, MANY=16, WIDE=wide, num_warps=_warps(16 * wide, 1024))


def products(ends: Tensor, index: Tensor, left: Tensor, right: Tensor, out: Tensor) -> None:
    """out [nnz] = left[row] . right[index] for every entry."""
    d = left.shape[1]
    wide = min(_power(d), TILE // 16)
    _run("products", len(left), ends, index, left, right, out, d, MANY=16, WIDE=wide, num_warps=_warps(16 * wide, 1024))


def adam(
    parameter: Tensor,
    grad: Tensor,
    first: Tensor,
    second: Tensor,
    shadow: Tensor | None,
    unit: bool,
    rates: tuple[float, float, float, float, float, float],
) -> None:
    """One step of Adam in place. rates: 1 / divisor, the corrected rate and root, beta1, beta2, eps. unit: rows [m d] are set
    back to length 1."""
    entries = parameter.numel()
    d = parameter.shape[1] if unit else min(_power(entries), 1024)
    wide = min(_power(d), 2048)
    given = (parameter, grad, first, second, shadow, d, entries, *map(float, rates))
    _run("adam", -(-entries // d), *given, UNIT=unit, WIDE=wide, num_warps=_warps(wide, 256))


def _run(name: str, programs: int, *given: Any, **sizes: Any) -> None:
    """Launch a kernel where its arrays are."""
    where = next(one.device for one in given if isinstance(one, Tensor))
    with torch.cuda.device(where) if where.type == "cuda" else contextlib.nullcontext():
        getattr(_kernels(), name)[(programs,)](*given, **sizes)


@functools.cache
def _kernels() -> Any:
    return importlib.import_module("actscope.ops._triton_kernels")


def _device() -> str:
    """The kind of device whose arrays the kernels take."""
    return "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"


def _power(n: int) -> int:
    """The least power of 2 that is at least n, and at least 16."""
    return max(16, 1 << (n - 1).bit_length())


def _warps(numbers: int, each: int) -> int:
    """How many warps share out a tile, `each` numbers to one; 1 to 16."""
    return max(1, min(16, numbers // each))
