"""One step of Adam on rows, with the division that clips, the return to length 1 and the bfloat16 copy in the same pass.

Kingma and Ba 2015 (arXiv:1412.6980), as torch's own: no weight decay, eps beside the corrected root.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from actscope.ops import _native, _triton

BETAS, EPS = (0.9, 0.999), 1e-8


class Slot(NamedTuple):
    """A parameter and what a step needs beside it, all of one shape."""

    parameter: Tensor
    grad: Tensor
    first: Tensor
    second: Tensor
    shadow: Tensor | None = None  # gets the new parameter in bfloat16
    unit: bool = False  # its rows are set back to length 1


@torch.no_grad()
def fast(slot: Slot, *, divisor: float, rate: float, steps: float | int) -> None:
    """divisor: gradients are divided by it first. steps: taken so far, this one counted."""
    parameter, grad, first, second, shadow, unit = slot
    if parameter.dtype == torch.float32 and _native.wanted(parameter, grad, first, second, shadow):
        rows, d = (1, parameter.numel()) if parameter.ndim < 2 else parameter.shape
        moved = (parameter, grad, first, second, rows, d, divisor, rate, *BETAS, EPS, float(steps), int(unit), shadow)
        _native.function("adam")(*moved)
        return
    if parameter.dtype == torch.float32 and _triton.wanted(parameter, grad, first, second, shadow):
        corrected = rate / (1 - BETAS[0] ** steps), (1 - BETAS[1] ** steps) ** 0.5
        _triton.adam(parameter, grad, first, second, shadow, unit, (1 / divisor, *corrected, *BETAS, EPS))
        return
    count = torch.tensor(float(steps), device=parameter.device)
    torch.ops.aten._fused_adam_.default(
        [parameter], [grad], [first], [second], [], [count],
        lr=rate, beta1=BETAS[0], beta2=BETAS[1], weight_decay=0.0, eps=EPS, amsgrad=False, maximize=False,
        grad_scale=torch.tensor(float(divisor), device=parameter.device),
    )  # fmt: skip
    if unit:
        torch.div(parameter, parameter.norm(dim=1, keepdim=True).clamp(min=torch.finfo(parameter.dtype).tiny), out=parameter)
    if shadow is not None:
        shadow.copy_(parameter)


@torch.no_grad()
def reference(slot: Slot, *, divisor: float, rate: float, steps: float | int) -> None:
    """The same in torch's plain operators."""
    parameter, grad, first, second, shadow, unit = slot
    grad = grad / divisor
    first.mul_(BETAS[0]).add_(grad, alpha=1 - BETAS[0])
    second.mul_(BETAS[1]).addcmul_(grad, grad, value=1 - BETAS[1])
    root = (second / (1 - BETAS[1] ** steps)).sqrt() + EPS
    parameter.sub_(rate / (1 - BETAS[0] ** steps) * first / root)
    if unit:
        parameter.div_(parameter.norm(dim=1, keepdim=True))
    if shadow is not None:
        shadow.copy_(parameter)
