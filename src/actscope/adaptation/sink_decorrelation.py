"""Fine-tuning that takes other tokens away from the sink at the beginning. Anand et al. 2025, "Mitigating Attention Sinks and
Massive Activations in Audio-Visual Speech Recognition with LLMs" (arXiv:2510.22603).

What the paper finds: while a language model is fine-tuned, tokens of little meaning inside the text become sinks besides the
first token. From the second layer on their states point where the first token's does, so they get its massive activations, in
the same dimensions, and its attention.

1. At each layer l, c_l(i) is the cosine of the states of the first token and of token i.
2. L_decorrelation: c_l(i) squared, averaged over all tokens but the first, then over the layers.
3. Minimise cross-entropy + weight L_decorrelation.

Layers and weight are those of the authors' code: all layers but the last, and 10,000. The weight is large because the gradient
of a squared cosine fades where two states are parallel, and in their length. Their code counts the tokens of the input alone,
not those of the transcript; here all count.
Letters: b batch, t tokens, d width, l layers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from actscope.adaptation._parts.tuning import Tuning
from actscope.core.change import Change
from actscope.core.errors import BadInput
from actscope.core.progress import Progress, quiet
from actscope.core.site import Site
from actscope.core.subject import Subject
from actscope.scores._parts.passages import layers
from actscope.training.fit import fit
from actscope.training.plan import Plan

__all__ = ["sink_decorrelation"]


def sink_decorrelation(
    subject: Subject,
    batches: Any,
    plan: Plan,
    *,
    weight: float = 10_000.0,
    sites: Sequence[str | Site] | None = None,
    anchor: int = 0,
    out: Path | str | None = None,
    progress: Progress = quiet,
) -> Change:
    """A subject's weights fine-tuned with a loss on the cosine of every token's state with the first token's, as a Change
    (Anand et al. 2025, arXiv:2510.22603).

    batches: a source for the training loop that gives pairs (ids [b t], all of them tokens; targets [b t], the token to come
    next, -100 where none counts). weight: of the loss; 0 fine-tunes without it, which is the paper's baseline. sites: None:
    resid_post of all layers but the last. anchor: the position of the token that the others are taken away from; another than
    the first is a control. out: a folder for checkpoints, from which the same call goes on. The subject stays as it is.
    Raises BadInput for a negative weight or position, a subject without the sites or without a module to train; whatever `fit`
    raises.
    """
    if weight < 0 or anchor < 0:
        raise BadInput(f"weight={weight}, anchor={anchor}: expected a weight from 0 on and a token's position from 0 on.")
    chosen = layers(subject, "resid_post")[:-1] if sites is None else [Site.parse(str(site)) for site in sites]
    if not chosen:
        raise BadInput(f"{subject.name} has one layer, whose end is not counted; give the sites at which states are compared.")
    tuning = fit(_Decorrelated(subject, chosen, weight, anchor), batches, plan, out=out, progress=progress)
    return tuning.change(f"sink_decorrelation weight={weight:g}" if weight else "trained")


class _Decorrelated(Tuning):
    """Trainable: cross-entropy and the weighted loss, in nats."""

    def __init__(self, subject: Subject, sites: Sequence[Site], weight: float, anchor: int):
        super().__init__(subject, {"weight": weight, "sites": list(map(str, sites)), "anchor": anchor})
        self.sites, self.weight, self.anchor = sites, weight, anchor

    def objective(self, batch: tuple[Tensor, Tensor], *, progress: float) -> dict[str, Tensor]:
        """{"loss", "cross-entropy", "cosine": the mean squared one}."""
        if not self.weight:
            return super().objective(batch, progress=progress)
        entropy, acts = self.run(batch, self.sites)
        cosine = torch.stack([squared_cosine(acts[site], self.anchor) for site in self.sites]).mean()
        return {"loss": entropy + self.weight * cosine, "cross-entropy": entropy, "cosine": cosine}


def squared_cosine(x: Float[Tensor, "b t d"], anchor: int = 0) -> Float[Tensor, ""]:
    """Of the state at `anchor` with every other, squared, averaged over tokens and sequences."""
    x = functional.normalize(x, dim=-1)
    cosine = x @ x[:, anchor, :, None]
    others = torch.arange(x.shape[1], device=x.device) != anchor
    return cosine[:, others].square().mean()
