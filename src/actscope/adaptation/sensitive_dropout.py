"""Sensitivity dropout. Mohammadzadeh et al. 2024, "Hallucination Detox: Sensitivity Dropout (SenD) for Large Language Model
Training" (arXiv:2410.15460; in its first version, SeND).

1. Training goes on in intervals, each of which ends at a checkpoint. There, every tracked text has a vector: of the last layer
   but one, the mean of what stands at its tokens and what stands at its last one, halved and added.
2. Over the last C checkpoints, coordinate i of it varies by V_i = Var(e_i) * sum_t |e_i^t - e_i^(t-1)|; the mean over texts.
3. The share K of coordinates that vary most are sensitive. Through the next T intervals they are 0 at every token while the
   model is trained; nothing is drawn, and nothing is dropped when the model is used.
4. After these T intervals, 2 and 3 again.

Defaults are the paper's: K = 20%, C = T = 3. It stops when loss and EigenScore settle; here the intervals are counted.
Letters: c checkpoints, b texts, t tokens, d width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from actscope.adaptation._parts.tuning import Tuning
from actscope.core.change import Change
from actscope.core.errors import BadInput
from actscope.core.inputs import Inputs
from actscope.core.intervention import Context, Intervention
from actscope.core.progress import Progress, quiet
from actscope.core.site import Site
from actscope.subjects.hf import HFSubject
from actscope.training.fit import fit
from actscope.training.plan import Plan

__all__ = ["sensitive_dropout"]


def sensitive_dropout(
    subject: HFSubject,
    source: Any,
    tracked: Inputs,
    *,
    share: float = 0.2,
    window: int = 3,
    hold: int = 3,
    choice: Literal["sensitive", "random"] = "sensitive",
    intervals: int = 12,
    steps: int = 50,
    batch: int = 32,
    lr: float = 1e-3,
    seed: int = 0,
    watch: Callable[[int, HFSubject], None] | None = None,
    progress: Progress = quiet,
) -> Change:
    """A language model trained on, its most variable coordinates being dropped (Mohammadzadeh et al. 2024, arXiv:2410.15460).

    source: has `batches(size, *, seed, start)`, which gives `Texts` (ids and next tokens). tracked: texts whose vectors say
    what is sensitive; not among those trained on. share: K, of the coordinates; 0 drops none, which is plain training. window:
    C; hold: T. choice: "random" drops as many, drawn anew each time, for a control. intervals: how many; steps: of each; batch:
    rows a step; lr: of Adam, the same throughout. seed: of the order and of random choices. watch: called at every checkpoint
    with its number and the model as it is, nothing dropped. Raises BadInput for numbers that cannot be and a model with fewer
    than two layers, NotFinite.
    """
    layers = [site for site in subject.order if site.kind == "resid_post"]
    if not 0 <= share < 1 or window < 2 or min(hold, intervals, steps, batch) < 1 or choice not in ("sensitive", "random"):
        raise BadInput(
            f"share={share}, window={window}, hold={hold}, choice={choice!r}, intervals={intervals}, steps={steps}, "
            f"batch={batch}; expected a share from 0 to below 1, a window from 2, 'sensitive' or 'random', and numbers from 1."
        )
    if len(layers) < 2:
        raise BadInput(f"{subject.name} has {len(layers)} layers; the last but one, where units are dropped, needs two.")
    training = _Training(subject, layers[-2], tracked, (share, window, hold), steps, seed, choice == "random", watch)
    plan = Plan(rows=intervals * steps * batch, batch=batch, lr=lr, warmup=0.0, decay=0.0, seed=seed)
    fit(training, source, plan, progress=progress)
    return training.change(f"sensitive_dropout(share={share}, choice={choice!r}, steps={intervals * steps})")


@dataclass(frozen=True)
class Silenced:
    """x with some coordinates put to 0."""

    site: Site
    kept: Bool[Tensor, " d"]
    reads: tuple[Site, ...] = ()

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        return x * self.kept.to(x)


class _Training(Tuning):
    """The weights, with what is dropped while they are trained."""

    def __init__(
        self, subject: HFSubject, site: Site, tracked: Inputs, settings: tuple[float, int, int], steps: int, seed: int,
        random: bool, watch: Callable[[int, HFSubject], None] | None,
    ):  # fmt: skip
        super().__init__(subject, {"settings": list(settings), "steps": steps, "seed": seed, "random": random})
        self.site, self.tracked, self.steps, self.random, self.watch = site, tracked, steps, random, watch
        self.share, self.window, self.hold = settings
        self.draw = torch.Generator().manual_seed(seed)
        self.vectors: list[Tensor] = []  # of the tracked texts, at the last checkpoints
        self.silenced: tuple[Intervention, ...] = ()
        self.taken = self.checkpoints = 0

    @property
    def writes(self) -> Sequence[Intervention]:
        return self.silenced

    def after_step(self, progress: float) -> None:
        self.taken += 1
        if self.taken % self.steps == 0:
            self.checkpoints += 1
            self.model.eval()
            self._checkpoint()
            self.model.train()

    @torch.no_grad()
    def _checkpoint(self) -> None:
        self.vectors = [*self.vectors[1 - self.window :], vectors(self.tuned, self.tracked, self.site)]
        if self.watch is not None:
            self.watch(self.checkpoints, self.tuned)
        past = self.checkpoints - self.window
        if self.share > 0 and past >= 0 and past % self.hold == 0:
            varies = variability(torch.stack(self.vectors))
            worth = torch.rand(varies.shape, generator=self.draw) if self.random else varies
            kept = torch.ones(len(worth), dtype=torch.bool)
            kept[worth.topk(round(self.share * len(worth))).indices] = False
            self.silenced = (Silenced(self.site, kept),)


def vectors(subject: HFSubject, tracked: Inputs, site: Site) -> Float[Tensor, "b d"]:
    """Step 1."""
    x = subject.run(tracked, read=[site]).acts[site].float().cpu()
    mask = torch.ones(x.shape[:2], dtype=torch.bool) if tracked.mask is None else tracked.mask.bool().cpu()
    last: Int[Tensor, " b"] = (mask * torch.arange(mask.shape[1])).argmax(1)
    mean = (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    return (mean + x[torch.arange(len(x)), last]) / 2


def variability(over: Float[Tensor, "c b d"]) -> Float[Tensor, " d"]:
    """Step 2."""
    return (over.var(0, correction=0) * over.diff(dim=0).abs().sum(0)).mean(0)
