"""Labelled pictures, and networks that tell what they show.

Letters: n and b pictures, c channels, h and w their sides, k classes, d width.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from actscope.core.dictionary import TrainableModule
from actscope.organisms._block import Block

SHIFT, TURN = 0.15, 0.15  # of a picture in training: up to this share of half its side, and up to this angle (radians)


class Pictures(NamedTuple):
    """pixels: from 0 to 1."""

    pixels: Float[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]

    def to(self, device: str) -> "Pictures":
        return Pictures(*(value.to(device) for value in self))


class Classifier(TrainableModule):
    """Trainable: mean cross-entropy of the label, in nats. forward: pictures -> a score for each class.

    body: pictures -> features; head: features -> scores. moved: whether pictures are shifted and turned in training. attack: by
    how much each pixel is then changed, at most, in the direction that raises the loss (Wong et al. 2020, arXiv:2001.03994).
    """

    rate = 3e-3

    def __init__(
        self, body: nn.Module, head: nn.Module, *, settings: dict[str, object], moved: bool = True, attack: float = 0.0
    ):
        super().__init__()
        self.body, self.head = body, head
        self.settings = {**settings, "moved": moved, "attack": attack}
        self.moved, self.attack = moved, attack

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        return self.head(self.body(x))

    def objective(self, batch: Pictures, *, progress: float) -> dict[str, Tensor]:
        """{"loss": nats a picture}."""
        pixels = moved(batch.pixels) if self.moved else batch.pixels
        if self.attack > 0:
            pixels = self._attacked(pixels, batch.labels)
        return {"loss": functional.cross_entropy(self(pixels), batch.labels)}

    def _attacked(self, x: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
        """One step from a random place within reach."""
        near = (x + self.attack * (2 * torch.rand_like(x) - 1)).requires_grad_(True)
        (gradient,) = torch.autograd.grad(functional.cross_entropy(self(near), labels), near)
        change = (near.detach() + 1.25 * self.attack * gradient.sign() - x).clamp(-self.attack, self.attack)
        return (x + change).clamp(0, 1)


def moved(x: Float[Tensor, "b c h w"], shift: float = SHIFT, turn: float = TURN) -> Float[Tensor, "b c h w"]:
    """Every picture shifted and turned a little, as torch's generator draws it."""
    angle = (2 * torch.rand(len(x), device=x.device) - 1) * turn
    to = (2 * torch.rand(len(x), 2, device=x.device) - 1) * shift
    cos, sin = angle.cos(), angle.sin()
    affine = torch.stack([torch.stack([cos, -sin, to[:, 0]], 1), torch.stack([sin, cos, to[:, 1]], 1)], 1)
    return functional.grid_sample(x, functional.affine_grid(affine, list(x.shape), align_corners=False), align_corners=False)


class Patches(nn.Module):
    """A small vision transformer up to its last norm: patches and a class token -> the class token's vector. inner, relu: of
    its blocks."""

    def __init__(
        self, *, side: int, patch: int, width: int, layers: int, heads: int, inner: int | None = None, relu: bool = False
    ):
        super().__init__()
        self.patches = nn.Conv2d(1, width, patch, stride=patch)
        self.token = nn.Parameter(torch.randn(width) * 0.02)
        self.place = nn.Parameter(torch.randn(1 + (side // patch) ** 2, width) * 0.02)
        self.embed = nn.Identity()  # where patches, class token and places are together
        self.blocks = nn.ModuleList(Block(width, heads, causal=False, inner=inner, relu=relu) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b d"]:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        x = self.embed(torch.cat([self.token.expand(len(x), 1, -1), patches], 1) + self.place)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 0]
