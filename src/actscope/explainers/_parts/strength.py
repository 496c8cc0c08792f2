"""From which strength on a latent's activations are best told from everything else.

A sparse latent often fires strongly on one thing and faintly on many. A rule for all activations must list the many; the rule
that says what the latent is about is the one for the strong activations. Where strong begins is found, not set: at the share
of the peak at which the best rule of one part has the highest F1.
Letters: n rows, s rows drawn, c shares, p candidates, v tokens.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from actscope.explainers._parts.search import Aim, Drawn, Space, Target
from actscope.scores._parts.reading import Reading

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # of the peak
FEWEST = 20  # rows that count as strong


def target_above(reading: Reading, latent: int, least: float) -> Target:
    """The rows with a value above `least` against all others."""
    rows, values = reading.active(latent)
    silent = torch.ones(len(reading.text), dtype=torch.bool)
    strong = rows[values > least]
    silent[strong] = False
    return Target(strong, silent)


def target_active(reading: Reading, latent: int, share: float) -> Target:
    """The rows with a value above `share` of the largest against those where the latent is silent; weaker ones are neither."""
    rows, values = reading.active(latent)
    silent = torch.ones(len(reading.text), dtype=torch.bool)
    silent[rows] = False
    return Target(rows[values > share * values.max()] if share > 0 else rows, silent)


def strength(space: Space, drawn: Drawn, target: Target, reading: Reading, latent: int, aim: Aim) -> float:
    """The value above which a latent's activations are told best by one part; 0 where that is all of them.

    target, drawn: of all activations.
    """
    rows, values = reading.active(latent)
    column = torch.zeros(len(reading.text)).index_put((rows,), values)
    cuts = torch.tensor(SHARES) * values.max()
    size = (values > cuts[:, None]).sum(1).float()  # [c]
    share = (drawn.weight[0] * (column[drawn.rows] > cuts[:, None])) * len(target.active)  # [c s], in rows
    said = drawn.weight.sum(0) * len(target.active)
    price = space.lengths @ torch.tensor([aim.part, aim.token])
    best = (_f1(share @ drawn.held, said @ drawn.held, size[:, None]) - price).amax(1)
    for _, _, place, names in drawn.fields:
        both = torch.zeros(len(names), len(cuts) + 1).index_add_(0, place, torch.cat([share, said[None]]).T.contiguous())
        best = torch.maximum(best, _sets(both[:, :-1].T * (names >= 0), both[:, -1], size, aim.token) - aim.part)
    best[size < FEWEST] = -torch.inf
    return float(cuts[int(best.argmax())])


def _sets(hit: Float[Tensor, "c v"], said: Float[Tensor, " v"], size: Float[Tensor, " c"], token: float) -> Float[Tensor, " c"]:
    """The highest F1, less the price of the tokens, of any set of tokens: those of the highest precision, as many as pay."""
    order = (hit / said.clamp(min=1e-9)).argsort(1, descending=True)
    hits, all_said = hit.gather(1, order).cumsum(1), said[order].cumsum(1)
    return (_f1(hits, all_said, size[:, None]) - token * torch.arange(1, len(said) + 1)).amax(1)


def _f1(hit: Tensor, said: Tensor, true: Tensor) -> Tensor:
    return 2 * hit / (said + true).clamp(min=1)
