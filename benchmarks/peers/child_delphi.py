"""delphi's LatentCache on rows that are there, by the interpreter of its environment.

`python -m benchmarks.peers.child_delphi FOLDER '{"rounds": ..., "k": ...}'`, answered by JSON. FOLDER/case.safetensors
holds the rows and the encoder. The model hands the rows out; the encoder gives dense codes, as delphi's own does for sparsify's
dictionaries. Each round is LatentCache.run on all rows, and then the encoder's product alone in chunks of 4,096.
FOLDER/delphi.safetensors gets the 20 largest values of every latent, taken from what it cached, outside the clock.
    {"pass", "product"}: seconds of each round; {"mib"}: how far the first run lets the process rise
Letters: n rows, d width, m latents, k active, b sequences, t tokens of each.
"""

import json
import sys
import time
from pathlib import Path

import torch
from benchmarks.peers._child import memory
from delphi.latents.cache import LatentCache
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

SEQUENCE, AT_ONCE, CHUNK, TOP = 256, 8, 4096, 20


class Rows(nn.Module):
    """A model of one layer, which gives the row of each token."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.layer, self.device = nn.Embedding.from_pretrained(x), torch.device("cpu")

    def forward(self, ids: Tensor) -> Tensor:
        return self.layer(ids)


def encoder(case: dict[str, Tensor], k: int):
    """Dense codes [b t m] of rows [b t d]."""
    weight, bias, centre, scale, unit = (case[name] for name in ("weight", "bias", "centre", "scale", "unit"))

    def encode(x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        value, index = torch.relu(torch.addmm(bias, flat / scale - centre, weight.T)).topk(k, dim=1, sorted=False)
        dense = torch.zeros(len(flat), len(weight)).scatter_(1, index, value * unit)
        return dense.view(*x.shape[:-1], -1)

    return encode


def largest(cache: LatentCache, m: int) -> Tensor:
    """[m 20] of what was cached, falling; 0 where there are fewer."""
    value, latent = cache.cache.latent_activations["layer"], cache.cache.latent_locations["layer"][:, 2]
    order = value.argsort(descending=True)
    order = order[latent[order].argsort(stable=True)]
    counts = latent.bincount(minlength=m)
    place = torch.arange(len(order)) - (counts.cumsum(0) - counts)[latent[order]]
    kept = order[place < TOP]
    return torch.zeros(m, TOP).index_put((latent[kept], place[place < TOP]), value[kept])


def main() -> None:
    folder, given = Path(sys.argv[1]), json.loads(sys.argv[2])
    case = load_file(folder / "case.safetensors")
    x, weight = case["x"].clone(), case["weight"]
    model, ids = Rows(x), torch.arange(len(x)).view(-1, SEQUENCE)
    encode, buffer = encoder(case, given["k"]), torch.empty(CHUNK, len(weight))
    torch.mm(x[:CHUNK], weight.T, out=buffer)
    found: dict = {"pass": [], "product": []}
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = memory("VmRSS:")
    for number in range(given["rounds"]):
        cache = LatentCache(model, {"layer": encode}, AT_ONCE)  # type: ignore[arg-type]
        began = time.perf_counter()
        cache.run(len(x), ids)
        between = time.perf_counter()
        if number == 0:
            found["mib"] = (memory("VmHWM:") - before) / 1024
        for part in x.split(CHUNK):
            torch.mm(part, weight.T, out=buffer[: len(part)])
        found["product"].append(time.perf_counter() - between)
        found["pass"].append(between - began)
    save_file({"top": largest(cache, len(weight))}, folder / "delphi.safetensors")
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
