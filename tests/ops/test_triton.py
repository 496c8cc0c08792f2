"""The Triton kernels equal their references in Triton's interpreter, compile for GPUs, and are what a step on a GPU runs.

A GPU is needed for what is marked so: `pytest -m gpu`.
"""

import functools
import json
import os
import subprocess
import sys

import pytest
import torch
from tests.ops import _triton_cases
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from actscope.core.batch import Batch
from actscope.dictionaries._parts import fused
from actscope.dictionaries.topk import TopK
from actscope.ops import _native, _triton
from actscope.training.descent import Descent, Handwritten
from actscope.training.plan import Plan

PORT = _triton_cases.PORT


@functools.cache
def interpreted() -> dict[str, str]:
    """Every case and what went wrong with it, from one process: the interpreter is chosen when triton is imported."""
    pytest.importorskip("triton")
    env = {**os.environ, "TRITON_INTERPRET": "1", "ACTSCOPE_KERNELS": ""}
    done = subprocess.run([sys.executable, "-m", "tests.ops._triton_cases"], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.parametrize("name", _triton_cases.CASES)
def test_kernels_equal_their_references_in_the_interpreter(name):
    assert not interpreted()[name], interpreted()[name]


@pytest.mark.gpu
@pytest.mark.parametrize("name", _triton_cases.CASES)
def test_kernels_equal_their_references_on_the_gpu(name):
    _triton_cases.run(name, "cuda")


class Pretended(TorchFunctionMode):
    """Numbers cannot be read off the "meta" device: each is 1 here, and `nonzero` finds three."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name, read = function.__name__, {"__float__": float, "__int__": int, "__bool__": bool, "item": float}
        if name in read:
            return read[name](1)
        if name == "tolist":
            return [1.0] * len(args[0])
        if name == "nonzero":
            return args[0].new_zeros((3, args[0].ndim), dtype=torch.long)
        return function(*args, **(kwargs or {}))


class OneDevice(TorchDispatchMode):
    """No operator is given an array on the CPU; single numbers may stand there, as for a GPU. The product at the entries of
    compressed rows, which a GPU has and "meta" lacks, gives these entries."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        arrays = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor) and one.ndim]
        assert {one.device.type for one in arrays} <= {"meta"}, f"{function} is given an array on the CPU"
        if function is torch.ops.aten.sparse_sampled_addmm.default:
            return args[0]
        return function(*args, **(kwargs or {}))


@pytest.fixture
def elsewhere(monkeypatch):
    """The "meta" device, which has shapes and dtypes and no numbers, stands for a GPU; every launch is kept: (kernel, its
    arguments)."""
    launches = []
    monkeypatch.setattr(fused, "DEVICES", ("meta",))
    monkeypatch.setattr(_triton, "_device", lambda: "meta")
    monkeypatch.setattr(_triton, "reason", lambda: "")
    monkeypatch.setattr(_triton, "_run", lambda name, programs, *given, **sizes: launches.append((name, given, sizes)))
    monkeypatch.setattr(_native, "function", lambda name: pytest.fail(f"{name} is for arrays on the CPU"))
    with Pretended():
        yield launches


def steps(matmul: str, fast: bool = True) -> None:
    """Two steps, with dead latents, of a dictionary that is elsewhere."""
    made = TopK(reads={PORT: 48}, n_latents=96, k=5, dead_after=10).to("meta").train()
    batch = Batch({PORT: torch.randn(32, 48, device="meta")}, torch.zeros(32, 2, dtype=torch.long, device="meta"))
    step = made.fused(Plan(matmul=matmul))
    assert step is not None
    descent = Handwritten(step) if fast else Descent(made, 1.0)
    for _ in range(2):
        with OneDevice():
            descent.step(batch, 1e-3, 0.5)
            descent.after_step(0.5)


@pytest.mark.parametrize("matmul", ["float32", "bfloat16"])
def test_a_step_on_a_gpu_runs_the_kernels_on_arrays_that_are_there(elsewhere, matmul):
    steps(matmul)
    assert {name for name, _, _ in elsewhere} == _triton_cases.EVERY
    arrays = [one for _, given, _ in elsewhere for one in given if isinstance(one, torch.Tensor)]
    assert {one.device.type for one in arrays} == {"meta"}


@pytest.mark.parametrize("fast", [True, False])
def test_without_triton_a_step_on_a_gpu_runs_torch_operators(elsewhere, monkeypatch, fast):
    monkeypatch.setattr(_triton, "reason", lambda: "not here.")
    monkeypatch.setattr(_triton, "say_once", lambda: None)
    steps("float32", fast)
    assert not elsewhere


def test_without_triton_it_is_said_once(monkeypatch):
    monkeypatch.setattr(_triton, "reason", lambda: "triton is not installed; pip install triton.")
    monkeypatch.delenv("ACTSCOPE_KERNELS", raising=False)
    _triton.say_once.cache_clear()
    with pytest.warns(UserWarning, match="pip install triton"):
        _triton.say_once()
    _triton.say_once()  # a second warning would be an error here
    _triton.say_once.cache_clear()


def test_the_kernels_are_not_asked_about_arrays_on_the_cpu(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(_triton, "reason", lambda: pytest.fail("triton was looked for"))
    assert not _triton.wanted(torch.zeros(3))


@pytest.mark.parametrize("capability", [pytest.param(80, marks=pytest.mark.full), 90])
def test_the_kernels_of_a_step_compile_for_a_gpu(elsewhere, capability, tmp_path, monkeypatch):
    """By Triton's own compiler, to machine code, with the arguments that a step gives them; it needs no GPU."""
    triton = pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    steps("bfloat16")
    target = triton.backends.compiler.GPUTarget("cuda", capability, 32)
    kinds = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.int64: "*i64", int: "i32", float: "fp32"}
    compiled = set()
    for name, given, sizes in elsewhere:
        kernel, warps = getattr(_triton._kernels(), name), {"num_warps": sizes.pop("num_warps")}
        said = dict(zip(kernel.arg_names, given, strict=False)) | sizes
        fixed = {key: value for key, value in said.items() if value is None or key in sizes}
        kind = {
            key: "constexpr" if key in fixed else kinds[getattr(value, "dtype", type(value))] for key, value in said.items()
        }
        if (name, str(kind)) not in compiled:
            compiled.add((name, str(kind)))
            source = triton.compiler.ASTSource(fn=kernel, signature=kind, constexprs=fixed)
            assert triton.compile(source, target=target, options=warps).asm["cubin"]
    assert {name for name, _ in compiled} == _triton_cases.EVERY
