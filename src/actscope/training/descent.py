"""One step down: gradients by autograd, Adam, clipping; a batch whose loss or gradient is not finite changes nothing.

Nothing here waits for the device: whether a step was skipped is decided, and counted, where the tensors are.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from actscope.core.dictionary import FusedStep, Trainable


class Descent:
    """Adam on everything `trainable.parameters()` gives. Kingma and Ba 2015 (arXiv:1412.6980)."""

    def __init__(self, trainable: Trainable, clip: float):
        self.trainable = trainable
        self.clip = clip
        self.parameters = [parameter for parameter in trainable.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(self.parameters, fused=True)

    def step(self, batch: Any, lr: float, progress: float) -> tuple[dict[str, Tensor], Tensor]:
        """(losses, 1 where the step was skipped else 0), both on the device."""
        self.optimizer.zero_grad()
        losses = self.trainable.objective(batch, progress=progress)
        losses["loss"].backward()
        grads = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        bad = (~torch.isfinite(norm + losses["loss"].detach())).float()
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        # torch's contract with GradScaler: fused Adam divides gradients by grad_scale and does nothing where found_inf is 1.
        self.optimizer.grad_scale = torch.clamp(norm.float() / self.clip, min=1.0)  # type: ignore[attr-defined]
        self.optimizer.found_inf = bad  # type: ignore[attr-defined]
        self.optimizer.step()
        return {name: loss.detach() for name, loss in losses.items()}, bad

    def state(self) -> dict[str, Tensor]:
        """Adam's moments, as "<parameter number>.<name>"."""
        moments = self.optimizer.state_dict()["state"]
        return {f"{number}.{name}": value for number, kept in moments.items() for name, value in kept.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            number, _, name = key.partition(".")
            moments.setdefault(int(number), {})[name] = value.clone()
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})


class Handwritten:
    """A method's own fused step behind the same three calls. It clips and skips by itself; a skipped step has a NaN loss."""

    def __init__(self, fused: FusedStep):
        self.fused = fused
        self.state = fused.state
        self.load = fused.load

    def step(self, batch: Any, lr: float, progress: float) -> tuple[dict[str, Tensor], Tensor]:
        losses = {name: torch.tensor(value) for name, value in self.fused.step(batch, lr, progress).items()}
        return losses, (~torch.isfinite(losses["loss"])).float()
