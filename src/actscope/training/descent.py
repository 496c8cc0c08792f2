"""One step down: gradients by autograd, Adam, clipping; a batch whose loss or gradient is not finite changes nothing.

Where several processes share out the rows, gradients are summed before clipping; where they share out the latents, each keeps
those of its own, and the norm is that of all. Every process takes the same step.

Nothing here waits for the device: whether a step was skipped is decided, and counted, where the tensors are.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from actscope.core import group
from actscope.core.dictionary import FusedStep, Trainable
from actscope.core.errors import UsageError
from actscope.training.distributed import by_latent
from actscope.training.plan import Plan

BETAS, EPS = (0.9, 0.999), 1e-8


class Descent:
    """Adam on everything `trainable.parameters()` gives. Kingma and Ba 2015 (arXiv:1412.6980).

    torch's fused kernel is called by itself: `torch.optim` would import torch's compiler first, which takes seconds.
    """

    def __init__(self, trainable: Trainable, clip: float):
        self.trainable = trainable
        self.clip = clip
        self.parameters = [parameter for parameter in trainable.parameters() if parameter.requires_grad]
        self.first = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.second = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.taken = torch.zeros((), device=self.parameters[0].device)  # steps that were not skipped
        split = by_latent(trainable) if group.latents().size > 1 else frozenset()
        own = {id(value) for name, value in trainable.named_parameters() if name in split} if split else ()  # type: ignore[attr-defined]
        self.split = torch.tensor([id(parameter) in own for parameter in self.parameters], device=self.taken.device)

    def step(self, batch: Any, lr: float, progress: float) -> tuple[dict[str, Tensor], Tensor]:
        """(losses, 1 where the step was skipped else 0), both on the device."""
        for parameter in self.parameters:
            parameter.grad = None
        losses = self.trainable.objective(batch, progress=progress)
        rows = group.rows()
        if rows.size == 1:
            losses["loss"].backward()
        else:
            (losses["loss"] * rows.weight).backward()
            self._add_up(rows)
            means = rows.mean(torch.stack([loss.detach().float() for loss in losses.values()]))
            losses = dict(zip(losses, means, strict=True))
        bad = self._adam(losses["loss"].detach(), lr)
        return {name: loss.detach() for name, loss in losses.items()}, bad

    def _add_up(self, rows: group.Rows) -> None:
        """Gradients over all rows. A parameter that has none anywhere stays without."""
        there = [parameter.grad is not None for parameter in self.parameters]
        for parameter, somewhere in zip(self.parameters, rows.any(torch.tensor(there)).tolist(), strict=True):
            if somewhere and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        rows.add_up(*(parameter.grad for parameter in self.parameters if parameter.grad is not None))

    def after_step(self, progress: float) -> None:
        self.trainable.after_step(progress)

    @torch.no_grad()
    def _adam(self, loss: Tensor, lr: float) -> Tensor:
        moved = [i for i, parameter in enumerate(self.parameters) if parameter.grad is not None]
        grads = [grad for grad in (self.parameters[i].grad for i in moved) if grad is not None]
        norms = torch.stack([torch.linalg.vector_norm(grad).float() for grad in grads])
        if (latents := group.latents()).size > 1:
            norms = torch.where(self.split[moved], latents.total(norms.square()).sqrt(), norms)
        norm = torch.linalg.vector_norm(norms)
        bad = (~torch.isfinite(norm + loss)).float()
        self.taken += 1 - bad
        torch.ops.aten._fused_adam_.default(  # divides the gradients by grad_scale, and does nothing where found_inf is 1
            [self.parameters[i] for i in moved],
            grads,
            [self.first[i] for i in moved],
            [self.second[i] for i in moved],
            [],
            [self.taken] * len(moved),
            lr=lr,
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=0.0,
            eps=EPS,
            amsgrad=False,
            maximize=False,
            grad_scale=torch.clamp(norm / self.clip, min=1.0),
            found_inf=bad,
        )
        return bad

    def state(self) -> dict[str, Tensor]:
        """Adam's moments by parameter number, and how many steps it took."""
        moments = {f"first.{i}": value for i, value in enumerate(self.first)}
        return {**moments, **{f"second.{i}": value for i, value in enumerate(self.second)}, "taken": self.taken}

    def load(self, state: Mapping[str, Tensor]) -> None:
        for name, value in self.state().items():
            value.copy_(state[name])


class Handwritten:
    """A method's own fused step behind the same calls. It clips and skips by itself; a skipped step has a loss of NaN."""

    def __init__(self, fused: FusedStep):
        self.fused = fused
        self.state = fused.state
        self.load = fused.load
        self.after_step = fused.after_step

    def step(self, batch: Any, lr: float, progress: float) -> tuple[dict[str, Tensor], Tensor]:
        losses = {name: torch.tensor(value) for name, value in self.fused.step(batch, lr, progress).items()}
        return losses, (~torch.isfinite(losses["loss"])).float()


def descent(trainable: Trainable, plan: Plan) -> Descent | Handwritten:
    """How `trainable` descends: by its own step where it has one for this plan. Raises UsageError for a plan that needs one."""
    fused = trainable.fused(plan)
    if fused is not None:
        return Handwritten(fused)
    if plan.matmul != "float32":
        raise UsageError(
            f'Plan(matmul="{plan.matmul}") asks for the encoder\'s product alone in {plan.matmul}; {type(trainable).__name__} '
            f"has no hand-written step on {plan.device} in {plan.dtype}. Leave it out, or use topk on cpu or cuda in float32."
        )
    return Descent(trainable, plan.clip)
