"""What a reader wants to see beside an explanation, as plain JSON values."""

import torch
from jaxtyping import Int
from torch import Tensor

from actscope.core.predicate import Predicate
from actscope.scores._parts.reading import Reading


def evidence(latent: int, rule: Predicate | None, reading: Reading, seed: int, *, each: int = 8) -> dict[str, object]:
    """density: share of tokens on which the latent is active. peak: its largest value. top_tokens: [token, share of its
    activations]. examples: [document, position, value] of the strongest activations ("top"), of one in each tenth of the
    range of values ("quantiles"), of random ones ("random"), and of places where the rule holds and the latent is silent
    ("missed"; none without a rule).
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + latent)
    rows, values = reading.active(latent)
    order = values.argsort(descending=True)
    spread = order[torch.linspace(0, len(order) - 1, 10).long()]
    chance = torch.randperm(len(rows), generator=generator)
    silent = torch.zeros(len(reading.text), dtype=torch.bool) if rule is None else rule.holds(reading.text)
    silent[rows] = False
    missed = silent.nonzero()[:, 0]
    missed = missed[torch.randperm(len(missed), generator=generator)[:each]]
    counts = torch.bincount(reading.text.ids[rows], minlength=len(reading.text.vocabulary))
    shares, tokens = (counts / len(rows)).topk(min(12, len(counts)))
    return {
        "density": len(rows) / len(reading.text),
        "peak": float(values.max()),
        "top_tokens": [
            [reading.text.vocabulary[token], share]
            for token, share in zip(tokens.tolist(), shares.tolist(), strict=True)
            if share > 0
        ],
        "examples": {
            "top": places(reading, rows[order[:each]], values[order[:each]]),
            "quantiles": places(reading, rows[spread], values[spread]),
            "random": places(reading, rows[chance[:each]], values[chance[:each]]),
            "missed": places(reading, missed, torch.zeros(len(missed))),
        },
    }


def places(reading: Reading, rows: Int[Tensor, " k"], values: Tensor) -> list[list[int | float]]:
    """[document, position, value] of each row."""
    where = reading.text.where[rows].tolist()
    return [[document, position, value] for (document, position), value in zip(where, values.tolist(), strict=True)]
