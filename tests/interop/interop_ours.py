"""Small dictionaries of ours with uneven scales, biases and centres, and rows to encode."""

import torch
from torch import Tensor

from actscope.core import methods
from actscope.core.dictionary import Dictionary

READ = "layers.3.resid_post"
CLOSE = 1e-5


def rows(d: int, n: int = 200, seed: int = 0) -> Tensor:
    return 3 * torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + 1


@torch.no_grad()
def shaken(dictionary: Dictionary, seed: int = 0) -> Dictionary:
    """The dictionary with every parameter moved, and scales as training measures them."""
    draw = torch.Generator().manual_seed(seed)
    for name, value in dictionary.state_dict().items():
        if name.endswith("select.log_threshold"):
            value.copy_(torch.rand(value.shape, generator=draw) - 2)
        elif name == "select.choice.threshold":
            value.fill_(0.3)
        elif name.startswith("scale"):
            value.fill_(2.5 if name == "scale_read" or not dictionary.writes.keys() - dictionary.reads.keys() else 0.7)
        elif value.is_floating_point() and value.ndim:
            value += 0.3 * torch.randn(value.shape, generator=draw)
    return dictionary.eval()


def autoencoder(method: str, d: int = 12, m: int = 40, seed: int = 0, **settings: object) -> Dictionary:
    settings |= {"k": 4} if method in ("topk", "batch_topk", "matryoshka") else {}
    return shaken(methods.find("dictionaries", method)(reads={READ: d}, n_latents=m, seed=seed, **settings), seed)  # type: ignore[operator]


def transcoder(d: int = 12, o: int = 10, m: int = 40, seed: int = 0, layer: int = 3, **settings: object) -> Dictionary:
    sites = {"reads": {f"layers.{layer}.mlp_in": d}, "writes": {f"layers.{layer}.mlp_out": o}}
    return shaken(methods.find("dictionaries", "transcoder")(**sites, n_latents=m, k=4, seed=seed, **settings), seed)  # type: ignore[operator]


def cross_layer(d: int = 12, m: int = 40, layers: int = 3, seed: int = 0, **settings: object) -> Dictionary:
    """m latents a layer."""
    sites = {
        which: {f"layers.{layer}.{kind}": d for layer in range(layers)}
        for which, kind in (("reads", "mlp_in"), ("writes", "mlp_out"))
    }
    made = methods.find("dictionaries", "cross_layer_transcoder")(**sites, n_latents=layers * m, k=4, seed=seed, **settings)  # type: ignore[operator]
    shaken(made, seed)
    made.scale_written.copy_(torch.linspace(0.5, 2, layers).repeat_interleave(d))
    return made


@torch.no_grad()
def assert_same(one: Dictionary, other: Dictionary, x: Tensor) -> None:
    """The same codes and output on rows, but for rows where a latent stands on the edge."""
    ours, theirs = one.encode(x), other.encode(x)
    same = ((ours.dense() != 0) == (theirs.dense() != 0)).all(1)
    assert same.float().mean() > 0.97, "more than 3 rows in 100 select other latents"
    assert_close(theirs.dense()[same], ours.dense()[same])
    for theirs_at, ours_at in zip(other.decode(theirs, x).values(), one.decode(ours, x).values(), strict=True):
        assert_close(theirs_at[same], ours_at[same])
    assert len(ours.index) > 0


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    assert float((ours - theirs).norm(dim=1).max()) <= CLOSE * float(theirs.norm(dim=1).max())
