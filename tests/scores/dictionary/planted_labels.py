"""Rows whose labels, and the dictionaries that say them, are known by construction.

A row is a sum of unit coordinates: coordinate 0 where the label "a" holds, coordinates 1 to 5 at a share of its rows each, the
others at random.
"""

import torch
from fakes import SITE, Linear, Rows, labels_where
from torch import Tensor

from actscope.core.labels import Labels
from actscope.subjects.module import wrap

N, D = 6000, 40
SUBJECT = wrap(torch.nn.Embedding(6, 2), sites={SITE: ":out"}, example=torch.zeros(1, 2, dtype=torch.long))  # never run


def world(share: float = 0.04, seed: int = 0) -> tuple[Rows, Labels, Tensor]:
    """(store, label "a", Int[n] which of the five kinds a row is, 0 for none)."""
    draw = torch.Generator().manual_seed(seed)
    holds = torch.rand(N, generator=draw) < 0.2
    kind = ((torch.rand(N, generator=draw) / share).long() + 1) * holds
    kind[kind > 5] = 0
    x = torch.zeros(N, D)
    x[torch.arange(N), kind] = 1.0
    x[:, 0] = holds.float()
    x[:, 6:] = (torch.rand(N, D - 6, generator=draw) < 0.05).float() * (0.5 + torch.rand(N, D - 6, generator=draw))
    store = Rows({SITE: x})
    return store, labels_where(store, a=holds), kind


def true_dictionary() -> Linear:
    """One latent a coordinate."""
    return Linear(torch.eye(D), torch.eye(D), torch.zeros(D))


def absorbing() -> Linear:
    """Latent 0 is silent at the five kinds: their latents say the label too. It rebuilds every row exactly."""
    encoder, decoder = torch.eye(D), torch.eye(D)
    encoder[1:6, 0] = -1.0
    decoder[1:6, 0] = 1.0
    return Linear(encoder, decoder, torch.zeros(D))


def shuffled(dictionary: Linear, seed: int = 0, low: float = 0.2, high: float = 5.0) -> Linear:
    """The same dictionary with its latents in another order and at other scales."""
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(dictionary.n_latents, generator=draw)
    scale = low + (high - low) * torch.rand(dictionary.n_latents, generator=draw)
    return Linear(dictionary.encoder[:, order] * scale, dictionary.decoder[order] / scale[:, None], dictionary.bias)
