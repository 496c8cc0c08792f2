"""The compiled kernels, when they are there: kernels/, built at installation by hatch_build.py.

ACTSCOPE_KERNELS=off leaves them out; v2, v3 or v4 asks for an instruction set in place of the machine's best.
"""

import ctypes
import functools
import hashlib
import os
import platform
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

_TYPES = {"p": ctypes.c_void_p, "l": ctypes.c_int64, "f": ctypes.c_float, "d": ctypes.c_double, "i": ctypes.c_int}
_SIGNATURES = {  # of kernels/; p: an array
    "topk_float32": "pllllippi",
    "topk_bfloat16": "pllllippi",
    "lengths": "pllpppi",
    "screen_float32": "ppppppllllppi",
    "screen_bfloat16": "ppppppllllppi",
    "quantise": "pllpppi",
    "sieve": "ppppppllllllpppi",
    "rescore": "pppppppppplllllpppi",
    "rebuild": "ppppplllfpppi",
    "group": "ppllpp",
    "gather": "ppppplllfppi",
    "adam": "ppppllfffffdipi",
    "keep": "pppllllppppi",
}
_NEEDS = {"v4": ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"), "v3": ("avx2", "fma", "bmi2"), "v2": ("sse4_2",)}


@functools.cache
def reason() -> str:
    """Why there are no compiled kernels; empty when there are."""
    return _load()[1]


def available() -> bool:
    return not reason()


def wanted(*tensors: Tensor | None) -> bool:
    """Whether the kernels are there and these are arrays they take: on the CPU and contiguous."""
    return available() and all(one is None or (one.device.type == "cpu" and one.is_contiguous()) for one in tensors)


@functools.cache
def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions that multiply bfloat16 and sum in float32."""
    return not _flags().isdisjoint({"avx512_bf16", "amx_bf16"})


@functools.cache
def multiplies_int8() -> bool:
    """Whether the processor has instructions that multiply int8 and sum in int32, and torch the product that uses them."""
    if _flags().isdisjoint({"avx512_vnni", "avx_vnni", "amx_int8"}) or not hasattr(torch, "_int_mm"):
        return False
    left, right = torch.tensor([[127, -127, 3]], dtype=torch.int8), torch.tensor([[127], [-127], [-5]], dtype=torch.int8)
    try:
        return torch._int_mm(left, right).tolist() == [[2 * 127 * 127 - 15]]  # pyright: ignore[reportPrivateImportUsage]
    except RuntimeError:  # a build of torch without it
        return False


@functools.cache
def say_once() -> None:
    """Tell the user that a path which has kernels runs without them, unless that was asked for."""
    if reason() and os.environ.get("ACTSCOPE_KERNELS") != "off":
        warnings.warn(f"Training runs without compiled kernels, about twice as slowly: {reason()}", stacklevel=3)


def function(name: str) -> Callable[..., None]:
    """The kernel of that name. It takes tensors, None and numbers; the number of threads is added."""
    return _function(name, instructions())


@functools.cache
def _function(name: str, instructions: str) -> Callable[..., None]:
    library, why = _load()
    assert library is not None, why
    raw = getattr(library, f"{instructions}_{name}")
    kinds = _SIGNATURES[name]
    raw.argtypes, raw.restype = [_TYPES[kind] for kind in kinds], None
    threaded = kinds.endswith("i")

    def call(*given: Tensor | int | float | None) -> None:
        plain = [one.data_ptr() if isinstance(one, Tensor) else one for one in given]
        raw(*plain, *([torch.get_num_threads()] if threaded else []))

    return call


@functools.cache
def instructions() -> str:
    """The instruction set the kernels run with."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return "native"
    asked = os.environ.get("ACTSCOPE_KERNELS", "")
    if asked in _NEEDS:
        return asked
    return usable()[0]


def usable() -> list[str]:
    """The instruction sets this processor has, the best first."""
    flags = _flags()
    return [name for name, needs in _NEEDS.items() if flags.issuperset(needs)] or ["v2"]


def _flags() -> set[str]:
    """What the processor can do, as Linux names it; on other systems what torch says of it."""
    if (info := Path("/proc/cpuinfo")).exists():
        lines = (line for line in info.read_text().splitlines() if line.startswith("flags"))
        return set(next(lines, "").split())
    best = torch.backends.cpu.get_cpu_capability()
    return {flag for name, needs in _NEEDS.items() if best.startswith("AVX512") or name != "v4" for flag in needs}


@functools.cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    if os.environ.get("ACTSCOPE_KERNELS") == "off":
        return None, "ACTSCOPE_KERNELS=off."
    folder = Path(__file__).parent
    sources = b"".join(one.read_bytes() for one in sorted((folder / "kernels").iterdir()))
    path = folder / f"_kernels.{hashlib.sha256(sources).hexdigest()[:16]}.so"
    if not path.exists():
        return None, "they were not built; install a C++ compiler and install actscope again."
    try:
        return ctypes.CDLL(str(path)), ""
    except OSError as error:
        return None, f"they do not load ({error}); install actscope again on this machine."
