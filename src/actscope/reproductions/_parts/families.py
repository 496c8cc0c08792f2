"""An autoencoder's latents, the neurons they were read from and random directions: the same site, as many active.

Letters: n rows, m latents, d width.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from actscope.core.codes import Codes
from actscope.core.dictionary import Dictionary
from actscope.core.site import Port
from actscope.core.store import Store
from actscope.dictionaries.random import Random
from actscope.dictionaries.topk import TopK
from actscope.training.fit import fit
from actscope.training.plan import Plan


class TopOf(Dictionary):
    """The k largest positive projections of x - mean on given directions."""

    def __init__(self, port: Port, directions: Float[Tensor, "m d"], mean: Float[Tensor, " d"], k: int):
        super().__init__(reads={port: directions.shape[1]}, writes=None, n_latents=len(directions), settings={"k": k})
        self.directions, self.mean, self.k = directions, mean, k

    def preacts(self, x):
        return (self.joined(x).float() - self.mean) @ self.directions.T

    def encode(self, x, *, grads=None) -> Codes:
        value, index = self.preacts(x).relu().topk(self.k, dim=1)
        return Codes.from_padded(index, value, self.n_latents)

    def decode(self, codes, x=None):
        return {self.write: codes.dense() @ self.directions + self.mean}

    @property
    def atoms(self) -> dict[Port, Tensor]:
        return {self.write: self.directions}


def families(store: Store, port: Port, latents: int, k: int, rows: int, *, seed: int) -> dict[str, Dictionary]:
    """A TopK autoencoder fitted to the store; its neurons, both signs; as many random directions as it has latents."""
    width = store.ports[port]
    sae = fit(TopK(reads={port: width}, n_latents=latents, k=k, seed=seed), store, Plan(rows=rows, batch=1024, seed=seed))
    x = store.rows(torch.arange(min(len(store), 20_000)), [port]).acts[port].float()
    random = Random(reads={port: width}, n_latents=latents, seed=seed).atoms[port].detach()
    neurons = torch.cat([torch.eye(width), -torch.eye(width)])
    return {
        "latents": sae,
        "neurons": TopOf(port, neurons, x.mean(0), k),
        "random directions": TopOf(port, random, x.mean(0), k),
    }


def between(one: Sequence[float], two: Sequence[float]) -> tuple[float, float]:
    """95% interval of the difference of two means (Welch's error, normal quantile)."""
    a, b = torch.tensor(one, dtype=torch.float64), torch.tensor(two, dtype=torch.float64)
    middle = float(a.mean() - b.mean())
    error = float((a.var() / len(a) + b.var() / len(b)).sqrt()) if min(len(a), len(b)) > 1 else float("inf")
    return middle - 1.96 * error, middle + 1.96 * error
