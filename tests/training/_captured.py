"""A store on disk, captured from a tiny module that reads bytes."""

from pathlib import Path

import torch
from torch import nn

from actscope.core.inputs import Inputs
from actscope.core.store import Store
from actscope.corpora.texts import texts
from actscope.stores.capture import capture
from actscope.subjects.module import ModuleSubject, wrap

TEXTS = [
    f"Document {number} speaks of {word} and of nothing else." for number in range(40) for word in ("rain", "bread", "x = 1")
]


class Bytes(ModuleSubject):
    """A wrapped module whose tokens are the bytes of a text."""

    def prepare(self, raw) -> Inputs:
        if isinstance(raw, torch.Tensor):
            return super().prepare(raw)
        rows = [list(text.encode()) for text in raw]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in rows])
        start = torch.arange(longest).expand(len(rows), -1)
        return Inputs(ids=ids, mask=mask, roles=torch.zeros_like(ids), offsets=torch.stack([start, start + 1], 2))


def captured(out: Path, sites: tuple[str, ...] = ("layers.0.mlp_in", "layers.0.mlp_out")) -> Store:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(256, 12), nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 10))
    places = {"layers.0.mlp_in": "1:in", "layers.0.mlp_out": "3:out"}
    wrapped = wrap(net, sites=places, example=torch.zeros(1, 3, dtype=torch.long), context=64)
    subject = Bytes(wrapped.model, "bytes", wrapped.taps, 64)
    return capture(subject, texts(TEXTS), sites, out=out)
