"""The latents that say a label: probes on 1, 2, 3... latents, as long as one more makes the F1 jump (Chanin et al. 2024,
arXiv:2409.14507).

Letters: n rows, m latents, l labels, f the most latents a probe sees, k rows of one label.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from actscope.scores._parts.asked import Asked
from actscope.scores._parts.columns import blocks
from actscope.scores._parts.detectors import f1
from actscope.scores._parts.probes import logistic, sparse_order

_CANDIDATES = 100  # latents that enter the L1 regression


@dataclass(frozen=True)
class Ladder:
    """Probes on the first 1, 2... f latents: what each says at a label's rows of another sample."""

    latents: Int[Tensor, " f"]
    said: Bool[Tensor, "f k"]
    holds: Bool[Tensor, " k"]

    @property
    def counts(self) -> Float[Tensor, "k c"]:
        """(hit, said, true) of each row and probe: their sums give every F1."""
        said = self.said.T
        holds = self.holds[:, None].expand_as(said)
        return torch.stack([said & holds, said, holds], dim=2).double().flatten(1)

    def main(self, jump: float) -> Int[Tensor, " s"]:
        """The latents up to the last jump."""
        return self.latents[: int(needed(self.counts.sum(0)[None], jump))]


def needed(counts: Float[Tensor, "r c"], jump: float) -> Int[Tensor, " r"]:
    """How many latents, from (hit, said, true) side by side: one, and one more as long as the F1 rises by more than `jump`."""
    hit, said, true = counts.reshape(len(counts), -1, 3).unbind(2)
    rises = f1(hit, said, true).diff(dim=1) > jump
    return 1 + rises.long().cumprod(1).sum(1)


def ladders(fitting: Asked, held: Asked, *, most: int) -> dict[str, Ladder]:
    """For each label, the probes fitted on one sample, put to the other.

    1. Of the latents that are higher where the label holds, the 100 whose means on the two sides are furthest apart in
       standard deviations.
    2. Their order: the weight that logistic regression with an L1 penalty gives them, positive weights first.
    3. Logistic regression on the first 1, 2... `most`.
    """
    spread = torch.cat([block.std(1, correction=0) for _, block in blocks(fitting.columns)]).clamp(min=1e-30)
    found = {}
    for (cause, asked), contrast in zip(fitting.questions.items(), fitting.contrasts() / spread, strict=True):
        near = contrast.topk(min(_CANDIDATES, len(contrast))).indices
        x = fitting.columns.take(near).T[asked.rows]
        order = sparse_order(x, asked.holds)[:most]
        other = held.questions[cause]
        y = held.columns.take(near[order]).T[other.rows]
        probes = [logistic(x[:, order[: k + 1]], asked.holds) for k in range(len(order))]
        said = torch.stack([probe.says(y[:, : k + 1]) for k, probe in enumerate(probes)])
        found[cause] = Ladder(near[order], said, other.holds)
    return found
