"""What every Triton kernel must do, on arrays of a device; run as a module, in Triton's interpreter: one line of JSON a case.

    TRITON_INTERPRET=1 python -m tests.ops._triton_cases

Sizes are small, odd, and beyond one tile where there is a loop over tiles.
"""

import json
import sys
import traceback
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from actscope.core.batch import Batch
from actscope.core.codes import Codes
from actscope.core.site import Port
from actscope.dictionaries.topk import TopK
from actscope.ops import _native, _triton, adam, encode_topk, rebuild, sparse_decode, sparse_grad, topk
from actscope.training.descent import Descent, Handwritten
from actscope.training.plan import Plan

PORT = Port.parse("layers.0.mlp_in")


def close(one: Tensor, other: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(one.cpu().double(), other.cpu().double(), atol=tolerance, rtol=10 * tolerance)


def randn(*shape: int) -> Tensor:
    """Drawn on the CPU: the same numbers on every device."""
    return torch.randn(shape)


def topk_chooses(device: str, dtype: torch.dtype) -> None:
    for m, k, piece in ((1, 1, 9), (33, 5, 12), (9, 9, 9)):
        scores = randn(9, m).to(dtype)
        scores[3] = -1.0  # none above zero
        scores[4, 2:] = -1.0
        scores[5] = 1.0  # all alike
        scores[6, -1], scores[7, m // 2], scores[8, 0] = torch.inf, torch.nan, -torch.nan
        index = torch.full((9, k), -1, device=device)
        value = torch.full((9, k), -1.0, device=device)
        for start in range(0, m, piece):
            part = scores[:, start : start + piece].contiguous().to(device)
            topk.into(part, index, value, offset=start, last=start + piece >= m)
        index, value = index.cpu(), value.cpu()
        assert value[7:].isnan().any(1).all() and not value[:7].isnan().any()
        numbers = torch.relu(scores[:7].float())
        # stable: of equal entries the lower latents, as the compiled kernel has them
        wanted = numbers.sort(dim=1, descending=True, stable=True)
        assert torch.equal(index[:7].sort(1).values, wanted.indices[:, :k].sort(1).values)
        assert torch.equal(numbers.gather(1, index[:7]), value[:7])


def topk_looks_at_wide_rows_in_parts(device: str) -> None:
    scores = randn(4, 90)
    whole, _triton.WIDEST = _triton.WIDEST, 32
    try:
        index, value = topk.fast(scores.to(device), 6)
    finally:
        _triton.WIDEST = whole
    assert torch.equal(value.cpu().sort(1, descending=True).values, topk.reference(scores, 6)[1])
    assert torch.equal(scores.gather(1, index.cpu()), value.cpu())


def chosen(n: int, m: int, d: int, k: int, device: str) -> tuple[Tensor, ...]:
    """(rows, atoms, index, value): latent 0 fires on every row, the last never; row 0 has no value but 0."""
    atoms = torch.nn.functional.normalize(randn(m, d), dim=1)
    index = torch.stack([torch.randperm(m - 2)[:k] + 1 for _ in range(n)])
    index[:, 0] = 0
    value = torch.relu(randn(n, k) + 0.3)
    value[:, 0], value[0] = 1.5, 0.0
    return tuple(one.to(device) for one in (randn(n, d), atoms, index, value))


def rebuild_equals(device: str) -> None:
    for n, m, d, k in ((1, 3, 1, 1), (5, 40, 33, 7), (3, 90, 300, 40)):
        x, atoms, index, value = chosen(n, m, d, k, device)
        index[-1, -1] = index[-1, 0]  # one latent twice in a row
        offset = randn(d).to(device)
        ours, plain = ([torch.full((n, d), 9.0, device=device), torch.full((n, k), 9.0, device=device)] for _ in range(2))
        total = rebuild.fast(index, value, atoms, offset, x, 0.7, *ours)
        close(total, rebuild.reference(index, value, atoms, offset, x, 0.7, *plain), 1e-4)
        for one, other in zip(ours, plain, strict=True):
            close(one, other, 1e-4)


def gradients_equal(device: str) -> None:
    for n, m, d, k in ((1, 3, 1, 1), (21, 30, 33, 5), (3, 6, 600, 2)):
        x, atoms, index, value = chosen(n, m, d, k, device)
        groups = sparse_grad.group(index, value, m)
        assert torch.equal(groups.fired.nonzero()[:, 0], index[value != 0].unique())
        for given in (None, atoms):
            sums, wanted = torch.full((m, d), 9.0, device=device), torch.empty(m, d, device=device)
            squares = sparse_grad.fast(groups, value, x, 0.3, sums, given)
            close(squares, sparse_grad.reference(groups, value, x, 0.3, wanted, given), 1e-4)
            close(sums, wanted, 1e-4)


def adam_equals(device: str) -> None:
    for shape, unit in (((7,), False), ((1100,), False), ((5, 33), False), ((5, 33), True), ((2, 2100), True)):
        start = randn(*shape)
        ours, plain = (
            [one.to(device) for one in (start.clone(), torch.zeros(shape), torch.zeros(shape), start.bfloat16())] for _ in "ab"
        )
        for steps in (1, 2):
            grad = randn(*shape).to(device) * 10 ** (steps - 3)
            for (parameter, *moments), step in ((ours, adam.fast), (plain, adam.reference)):
                step(adam.Slot(parameter, grad.clone(), *moments, unit), divisor=2.0, rate=1e-2, steps=steps)
        for one, other in zip(ours[:3], plain[:3], strict=True):
            close(one, other, 1e-6)
        if device == "cuda":
            assert torch.equal(ours[3], ours[0].bfloat16()), "the copy is not the parameter rounded"
        close(ours[3], ours[0], 2**-10)  # the interpreter cuts off what a GPU rounds


def decode_equals(device: str, dtype: torch.dtype) -> None:
    for n, m, d in ((1, 1, 1), (6, 30, 33), (2, 5, 600)):
        dense = (randn(n, m) * (torch.rand(n, m) < 0.7)).to(device, dtype)
        dense[n // 2] = 0  # a row without entries
        codes = Codes.from_dense(dense)
        found = []
        for path in (sparse_decode.fast, sparse_decode.reference):
            torch.manual_seed(1)
            atoms = randn(m, d).to(device, dtype).requires_grad_()
            value = codes.value.clone().requires_grad_()
            out = path(Codes(codes.indptr, codes.index, value, m), atoms)
            found.append([out, *torch.autograd.grad((out * randn(n, d).to(device, dtype)).sum(), [value, atoms])])
        for one, other in zip(*found, strict=True):
            assert one.dtype == dtype
            close(one, other, 1e-4 if dtype == torch.float32 else 2e-2)


def encode_equals(device: str) -> None:
    inputs = [one.to(device).requires_grad_() for one in (randn(9, 20), randn(37, 20), randn(37), randn(20))]
    weight, found = randn(9, 37).to(device), []
    for path in (encode_topk.fast, encode_topk.reference):
        dense = path(*inputs[:3], 25, inputs[3]).dense()  # 25 of 37: some of the chosen are negative before ReLU
        found.append([dense, *torch.autograd.grad((dense * weight).sum(), inputs)])
    for one, other in zip(*found, strict=True):
        close(one, other, 1e-4)


def step_equals_autograd(device: str, matmul: str) -> None:
    """Two steps from one start, a third of the latents dead, beside autograd through torch's operators; in bfloat16 by their
    losses alone."""
    rows = [Batch({PORT: randn(6, 9).to(device)}, torch.zeros(6, 2, dtype=torch.long, device=device)) for _ in range(2)]
    made = []
    for fast in (True, False):
        one = TopK(reads={PORT: 9}, n_latents=14, k=2, aux_k=3, dead_after=10).to(device).train()
        one.begin(rows[0])
        one.revival.idle[::3] = 100
        fused = one.fused(Plan(matmul=matmul, device=device))
        assert fused is not None
        descent = Handwritten(fused) if fast else Descent(one, 1.0)
        losses, wanted = [], _triton.wanted
        if not fast:
            _triton.wanted = lambda *_: False
        for number, batch in enumerate(rows):
            found, bad = descent.step(batch, 1e-3, number / 2)
            descent.after_step(number / 2)
            assert bad == 0
            losses.append(torch.stack([found[name].cpu().float() for name in ("loss", "fvu", "dead")]))
        _triton.wanted = wanted
        made.append((one, losses))
    (ours, fast_losses), (theirs, losses) = made
    exact = matmul == "float32"
    for one, other in zip(fast_losses, losses, strict=True):
        close(one, other, 1e-5 if exact else 1e-2)
    if exact:
        assert torch.equal(ours.revival.idle, theirs.revival.idle)
        for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            moved = (one - other).abs().max() / 2e-3
            assert moved < 1e-2, f"{name} moved otherwise by {float(moved):.3g} of two steps"


FLOATS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
EVERY = {"topk", "rebuild", "gather", "products", "adam"}
CASES: dict[str, tuple[set[str], Callable[[str], None]]] = {  # the kernels that must have run, and what they are held against
    "topk of wide rows": ({"topk"}, topk_looks_at_wide_rows_in_parts),
    "rebuild": ({"rebuild"}, rebuild_equals),
    "gradients": ({"gather"}, gradients_equal),
    "adam": ({"adam"}, adam_equals),
    "encode": ({"topk", "gather"}, encode_equals),
}
for _name, _dtype in FLOATS.items():
    CASES[f"topk {_name}"] = ({"topk"}, partial(topk_chooses, dtype=_dtype))
    CASES[f"decode {_name}"] = ({"gather", "products"}, partial(decode_equals, dtype=_dtype))
    CASES[f"step {_name}"] = (EVERY, partial(step_equals_autograd, matmul=_name))


def run(name: str, device: str) -> None:
    """One case. Raises AssertionError where a kernel is wrong, or did not run."""
    needed, case = CASES[name]
    if name == "encode" and device == "cpu":
        needed = needed - {"topk"}  # float32 rows on the CPU are encoded exactly, by ops/exact_topk.py
    assert not _triton.reason(), _triton.reason()
    launch, seen = _triton._run, set()
    _triton._run = lambda kernel, *given, **sizes: (seen.add(kernel), launch(kernel, *given, **sizes))[1]
    torch.manual_seed(0)
    try:
        case(device)
    finally:
        _triton._run = launch
    assert seen == needed, f"{sorted(seen)} ran; expected {sorted(needed)}"


def main() -> None:
    _native.available = lambda: False  # else arrays on the CPU are the compiled kernels'
    for name in CASES:
        try:
            run(name, "cpu")
            failed = ""
        except Exception:
            failed = traceback.format_exc()
        sys.stdout.write(json.dumps([name, failed]) + "\n")


if __name__ == "__main__":
    main()
