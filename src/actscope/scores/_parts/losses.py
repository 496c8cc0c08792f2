"""The next-token loss of every predicted token."""

import torch
from jaxtyping import Float
from torch import Tensor

from actscope.core.errors import NotFinite
from actscope.core.inputs import Inputs, predicted_text
from actscope.core.subject import Subject


def token_losses(subject: Subject, inputs: Inputs, logits: Tensor | None) -> Float[Tensor, " tokens"]:
    """Nats at every token of text that text of the same document follows, in reading order, in float64. Raises NotFinite."""
    assert logits is not None and inputs.ids is not None, "the caller gives a language model and ids"
    predicts = predicted_text(inputs)
    kept = logits.cpu()[predicts].float()
    target = inputs.ids[:, 1:][predicts[:, :-1]].long()
    losses = torch.nn.functional.cross_entropy(kept, target, reduction="none").double()
    if not bool(losses.isfinite().all()):
        raise NotFinite(f"The loss of {subject.name} is not finite on this text; look at its weights.")
    return losses
