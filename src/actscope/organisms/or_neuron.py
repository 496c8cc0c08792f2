"""A classifier with a neuron that fires for either of two shapes, and the shapes that are in its pictures.

A picture of 16 x 16 pixels shows one of nine shapes, faint or strong, a little off the middle, among scattered pixels and
noise. The first class is "either of two shapes"; each other shape has a class of its own. So what the first class's neuron
responds to is known, and is two things. A convolutional network learns the classes from labelled pictures alone.

Letters: n and b pictures, s shapes, h and w sides, k classes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from actscope.core.errors import UsageError
from actscope.core.progress import Progress, quiet
from actscope.core.site import Site
from actscope.organisms._pictures import Classifier, Pictures
from actscope.subjects.module import ModuleSubject, wrap
from actscope.training.fit import fit
from actscope.training.plan import Plan
from actscope.training.shuffled import Shuffled

__all__ = ["or_neuron"]

SIDE, SHIFT = 16, 1  # pixels; how far off the middle a shape may stand
EITHER = 0  # the class, and the neuron, of two shapes
CODE = Site("final_norm")  # what the classes are told from
_CLUTTER, _NOISE = 0.04, 0.1  # share of pixels that are lit at random; standard deviation
_SHAPES = (  # 9 x 9: rows of 9 pixels
    "...###... .##...##. .#.....#. #.......# #.......# #.......# .#.....#. .##...##. ...###...",  # ring
    "....#.... ....#.... ....#.... ....#.... ######### ....#.... ....#.... ....#.... ....#....",  # plus
    "#.......# .#.....#. ..#...#.. ...#.#... ....#.... ...#.#... ..#...#.. .#.....#. #.......#",  # cross
    "######### #.......# #.......# #.......# #.......# #.......# #.......# #.......# #########",  # square
    "....#.... ...#.#... ...#.#... ..#...#.. ..#...#.. .#.....#. .#.....#. #.......# #########",  # triangle
    "......... ######### ......... ......... ######### ......... ......... ######### .........",  # bars
    ".#..#..#. .#..#..#. .#..#..#. .#..#..#. .#..#..#. .#..#..#. .#..#..#. .#..#..#. .#..#..#.",  # posts
    "#........ #........ #........ #........ #........ #........ #........ #........ #########",  # corner
    "######### #........ #........ #........ ######### ........# ........# ........# #########",  # S
)


@dataclass(frozen=True)
class World:
    """shapes: in the middle of a picture, at full strength; the first two are of class 0, and shape i is of class i - 1."""

    shapes: Float[Tensor, "s h w"]

    def pictures(self, count: int, *, seed: int) -> tuple[Pictures, Int[Tensor, " n"]]:
        """(pictures with their classes, the shape of each), drawn anew; half of them show one of the first two shapes."""
        draw = torch.Generator().manual_seed(seed)
        either = torch.rand(count, generator=draw) < 0.5
        one, other = (torch.randint(*ends, (count,), generator=draw) for ends in ((0, 2), (2, len(self.shapes))))
        shape = torch.where(either, one, other)
        strength = 0.5 + 0.5 * torch.rand(count, 1, 1, generator=draw)
        x = self.shapes[shape] * strength
        x = torch.maximum(x, (torch.rand(x.shape, generator=draw) < _CLUTTER) * torch.rand(x.shape, generator=draw))
        to = torch.randint(-SHIFT, SHIFT + 1, (count, 2), generator=draw)
        x = torch.stack([picture.roll(tuple(by), (0, 1)) for picture, by in zip(x, to.tolist(), strict=True)])
        x = (x + _NOISE * torch.randn(x.shape, generator=draw)).clamp(0, 1)
        return Pictures(x[:, None], (shape - 1).clamp(min=0)), shape


class Trained(NamedTuple):
    """What `or_neuron` gives: the subject, whose neuron `EITHER` of "logits" fires for two shapes, and the world."""

    subject: ModuleSubject
    world: World


def or_neuron(
    seed: int = 0,
    *,
    channels: int = 16,
    width: int = 64,
    pictures: int = 4000,
    epochs: int = 10,
    batch: int = 50,
    attack: float = 0.0,
    out: Path | str | None = None,
    progress: Progress = quiet,
) -> Trained:
    """A convolutional classifier with a neuron for either of two shapes, trained in seconds on one core.

    seed: which two shapes go together, the weights and the pictures. channels: of the convolutions; width: of the vector at
    `CODE`, from which the classes are told. pictures: trained on, each `epochs` times. attack: by how much pixels are changed
    against the network in training, at most. out: a folder for checkpoints and the result, from which the same call takes up
    its work. Raises UsageError for numbers that cannot be.
    """
    if min(channels, width, epochs, batch) < 1 or pictures < batch:
        raise UsageError(
            f"channels={channels}, width={width}, pictures={pictures}, epochs={epochs}, batch={batch}: expected numbers from "
            "1, and at least a batch of pictures."
        )
    world = _world(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Classifier(
            _body(channels, width), nn.Linear(width, len(_SHAPES) - 1), settings={"seed": seed}, moved=False, attack=attack
        )
    seen, _ = world.pictures(pictures, seed=_TRAINED + seed)
    source = Shuffled(seen, {"world": seed, "pictures": pictures})
    fit(model, source, Plan(rows=epochs * pictures, batch=batch, decay=0.5, seed=seed), out=out, progress=progress)
    model.requires_grad_(False)
    sites: dict[str | Site, str] = {f"layers.{layer}.resid_post": f"body.{2 * layer + 1}" for layer in range(3)}
    sites[CODE] = "body"
    return Trained(wrap(model, sites=sites, name=f"or-neuron-{seed}", example=seen.pixels[:1]), world)


_TRAINED = 1 << 40  # seeds from here on are those of training


def _world(seed: int) -> World:
    rows = torch.tensor([[[cell == "#" for cell in row] for row in shape.split()] for shape in _SHAPES]).float()
    around = (SIDE - rows.shape[1]) // 2
    shapes = functional.pad(rows, (around, SIDE - rows.shape[1] - around) * 2)
    return World(shapes[torch.randperm(len(shapes), generator=torch.Generator().manual_seed(seed))])


def _body(channels: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after, stride in ((1, channels, 1), (channels, 2 * channels, 2), (2 * channels, 2 * channels, 2)):
        layers += [nn.Conv2d(before, after, 3, stride=stride, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2 * channels * (SIDE // 4) ** 2, width), nn.ReLU())
