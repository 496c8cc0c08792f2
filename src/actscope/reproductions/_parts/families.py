"""An autoencoder's latents, the neurons of the same layer and random directions: as many active, and drawn alike.

Letters: n rows, m latents, d width.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

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


def families(
    store: Store, stream: Port, few: Store, neurons: Port, latents: int, k: int, rows: int, *, seed: int
) -> dict[str, Dictionary]:
    """A TopK autoencoder fitted to `stream` in `store`; the `neurons`, both signs; as many random directions in `stream` as it
    has latents. few: a store of both ports, for means."""
    width = store.ports[stream]
    sae = fit(TopK(reads={stream: width}, n_latents=latents, k=k, seed=seed), store, Plan(rows=rows, batch=1024, seed=seed))
    means = {port: x.float().mean(0) for port, x in few.rows(torch.arange(len(few)), [stream, neurons]).acts.items()}
    signs = torch.eye(few.ports[neurons])
    random = normalize(Random(reads={stream: width}, n_latents=latents, seed=seed).atoms[stream].detach(), dim=1)
    return {
        "latents": sae,
        "neurons": TopOf(neurons, torch.cat([signs, -signs]), means[neurons], k),
        "random directions": TopOf(stream, random, means[stream], k),
    }


def drawn_alike(counts: Mapping[str, Int[Tensor, " m"]], most: int, *, seed: int) -> dict[str, list[int]]:
    """Up to `most` latents of the first family, at random, and for each the latent of every other family that is nearest in how
    often it fires, none taken twice: a list a family, those at the same place belong together.

    counts: how often each latent fires; 0 for those that cannot be judged.
    """
    first, *rivals = counts
    most = min(most, *(int((one > 0).sum()) for one in counts.values()))
    able = (counts[first] > 0).nonzero()[:, 0]
    found = {first: able[torch.randperm(len(able), generator=torch.Generator().manual_seed(seed))[:most]].tolist()}
    for rival in rivals:
        often = counts[rival].double().log()  # -inf where it cannot be judged
        found[rival] = []
        for latent in found[first]:
            nearest = int((often - math.log(int(counts[first][latent]))).abs().argmin())
            found[rival].append(nearest)
            often[nearest] = -math.inf
    return found


def paired(differences: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """The mean of differences of pairs and its 95% interval (normal quantile)."""
    x = torch.tensor(differences, dtype=torch.float64)
    half = 1.96 * float(x.std()) / math.sqrt(len(x)) if len(x) > 1 else math.inf
    return float(x.mean()), (float(x.mean()) - half, float(x.mean()) + half)
