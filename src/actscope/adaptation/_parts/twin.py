"""A subject's twin that the training loop can train: its weights are its own, and what was learnt is a `Change`.

Letters: b rows, t tokens.
"""

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Int
from torch import Tensor
from torch.nn import functional

from actscope.core.change import Change, Delta
from actscope.core.dictionary import TrainableModule
from actscope.core.inputs import Inputs
from actscope.core.intervention import Intervention
from actscope.subjects.hf import HFSubject

IGNORED = -100  # target of a token whose next one is not asked for


class Texts(NamedTuple):
    """Rows of one length."""

    ids: Int[Tensor, "b t"]
    targets: Int[Tensor, "b t"]  # the next token, or IGNORED

    def to(self, device: str) -> "Texts":
        return Texts(*(value.to(device) for value in self))


class Twin(TrainableModule):
    """Trainable: mean cross-entropy of the next token, in nats. `subject` is the twin as it stands."""

    def __init__(self, subject: HFSubject):
        super().__init__()
        self.settings = {"subject": subject.fingerprint}
        own = {name: Delta(value.detach().clone(), replaces=True) for name, value in subject.model.named_parameters()}
        self.subject = subject.changed(Change(weights=own))
        self.model = self.subject.model.requires_grad_(True)

    @property
    def writes(self) -> Sequence[Intervention]:
        """What is put into every run in training. Default: nothing."""
        return ()

    def objective(self, batch: Texts, *, progress: float) -> dict[str, Tensor]:
        """{"loss": nats a token}."""
        logits = self.subject.run(Inputs(ids=batch.ids), write=self.writes, grad=True).logits
        assert logits is not None, "a run without reads computes logits"
        return {"loss": functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORED)}

    def change(self, origin: str) -> Change:
        """Every weight as it is now, for the subject that the twin was made of."""
        weights = {name: Delta(value.detach().clone(), replaces=True) for name, value in self.model.named_parameters()}
        return Change(weights=weights, origin=origin)
