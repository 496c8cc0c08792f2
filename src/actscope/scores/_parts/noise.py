"""Text that loses its structure step by step: Suresh et al. 2025 (arXiv:2509.06938).

Letters: b batch, t tokens, w words.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

LEVELS = (0, 8, 4, 2, 1, -1)  # length of the n-grams that are shuffled; 0: none are, -1: tokens drawn at random


def noisy(
    ids: Int[Tensor, "b t"], here: Bool[Tensor, "b t"], level: int, words: Int[Tensor, " w"], draw: torch.Generator
) -> Int[Tensor, "b t"]:
    """The ids with those `here`, of every row by itself, shuffled in n-grams of `level` tokens, or drawn from `words`."""
    ids = ids.clone()
    for row, where in enumerate(here):
        text = ids[row][where]
        if level < 0:
            text = words[torch.randint(len(words), (len(text),), generator=draw)]
        elif level and len(text):
            grams = text.split(level)
            text = torch.cat([grams[i] for i in torch.randperm(len(grams), generator=draw)])
        ids[row, where] = text
    return ids
