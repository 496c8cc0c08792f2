"""A subject's weights as something the training loop can train; the subject itself stays as it is.

Letters: b batch, t tokens.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from actscope.core.change import Change, Delta
from actscope.core.dictionary import TrainableModule
from actscope.core.errors import BadInput
from actscope.core.intervention import Intervention
from actscope.core.site import Site
from actscope.core.subject import Subject

IGNORED = -100  # a target that does not count
LOGITS = Site("logits")


class Texts(NamedTuple):
    """Rows of one length, and at each token the one to come next, or IGNORED."""

    ids: Int[Tensor, "b t"]
    targets: Int[Tensor, "b t"]

    def to(self, device: str) -> "Texts":
        return Texts(*(value.to(device) for value in self))


class Tuning(TrainableModule):
    """Trainable: mean cross-entropy of the targets, in nats.

    A batch is a pair (ids [b t] or pixels [b c h w], targets). targets: the class of each input [b], or the token to come next
    at each token [b t]; IGNORED where none counts. standing: interventions in whose presence the weights are trained.
    settings: what tells this run from another. Raises BadInput for a subject without logits or a torch module to train.
    """

    def __init__(self, subject: Subject, settings: Mapping[str, object], standing: Iterable[Intervention] = ()):
        super().__init__()
        before = getattr(subject, "model", None)
        if not isinstance(before, nn.Module) or LOGITS not in subject.sites:
            raise BadInput(f"{subject.name} has no logits, or no torch module to train; load or wrap a model that has both.")
        self.settings = {**settings, "subject": subject.fingerprint}
        self.standing = tuple(standing)
        self.before = {name: value.detach() for name, value in before.named_parameters()}
        own = {name: Delta(value.clone(), replaces=True) for name, value in self.before.items()}
        self.tuned: Any = subject.changed(Change(self.standing, own))
        self.model: nn.Module = self.tuned.model.requires_grad_(True)

    @property
    def writes(self) -> Sequence[Intervention]:
        """What is put into a run in training alone. Default: nothing."""
        return ()

    def run(self, batch: tuple[Tensor, Tensor], read: Iterable[Site] = ()) -> tuple[Float[Tensor, ""], Mapping[Site, Tensor]]:
        """(the cross-entropy, what stands at the sites and the logits)."""
        x, targets = batch
        acts = self.tuned.run(x, read=[*read, LOGITS], write=self.writes, grad=True).acts
        return functional.cross_entropy(acts[LOGITS].flatten(0, -2), targets.flatten(), ignore_index=IGNORED), acts

    def objective(self, batch: tuple[Tensor, Tensor], *, progress: float) -> dict[str, Tensor]:
        """{"loss": nats a target}."""
        return {"loss": self.run(batch)[0]}

    def change(self, origin: str) -> Change:
        """What training has changed, and the interventions that stand with it."""
        now = {name: value.detach() for name, value in self.model.named_parameters()}
        moved = {name: value for name, value in now.items() if not torch.equal(value, self.before[name].to(value.device))}
        return Change(self.standing, {name: Delta(value.cpu(), replaces=True) for name, value in moved.items()}, origin)
