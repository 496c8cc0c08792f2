"""Two frames of moving sprites, and a predictor of the second frame's patches: the video model of the house.

A frame is a square of patches, each of one colour: black, or a sprite's. Sprites are squares of random texture; each moves two
patches straight or diagonally, and one may pass in front of another. So where every patch goes is known. The predictor sees the
first frame and a few patches of the second, from which the motion can be told, and gives a distribution over colours for each
patch of the second frame, independent of those for the others; any subset of patches may be shown. It is what Kim et al. 2025
(arXiv:2507.09082) ask of a video model: it predicts distributions, its tokens are local, and what is shown is free to choose.
It is trained on frames alone, never on flow.

Letters: n and b films, s side, p patches of a frame, t of both, c colours, h channels.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from actscope.core.dictionary import TrainableModule
from actscope.core.errors import UsageError
from actscope.core.progress import Progress, quiet
from actscope.subjects.module import ModuleSubject, wrap
from actscope.training.drawn import APART, Drawn
from actscope.training.fit import fit
from actscope.training.plan import Plan

__all__ = ["moving_sprites"]

SIDE, SIZE, SPRITES = 10, 4, 2
PALETTE = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 1, 1))  # red, green, blue of every colour, from 0 to 1
HIDDEN = len(PALETTE)  # the id of a patch of the second frame that is not shown
SHOWN = 0.6  # at most, share of the second frame's patches that training shows
MOVES = tuple((y, x) for y in (-2, 0, 2) for x in (-2, 0, 2) if y or x)


class Films(NamedTuple):
    """first, second: colours. flow: by how much each patch of the first frame moves. seen: patches of a sprite that the second
    frame still shows."""

    first: Int[Tensor, "n s s"]
    second: Int[Tensor, "n s s"]
    flow: Int[Tensor, "n s s 2"]
    seen: Bool[Tensor, "n s s"]


def films(count: int, *, seed: int) -> Films:
    """Films drawn anew; the same seed gives the same ones."""
    draw = torch.Generator().manual_seed(seed)
    frames = torch.zeros(2, count, SIDE, SIDE, dtype=torch.long)
    owner = torch.full((2, count, SIDE, SIDE), -1)  # the foremost sprite
    every = torch.arange(count)[:, None]
    moves = torch.tensor(MOVES)[torch.randint(len(MOVES), (count, SPRITES), generator=draw)]
    inside = torch.tensor([(y, x) for y in range(SIZE) for x in range(SIZE)])
    for sprite in range(SPRITES):
        texture = torch.randint(1, len(PALETTE), (count, SIZE * SIZE), generator=draw)
        move = moves[:, sprite]
        room = SIDE - SIZE - move.abs()  # places from which it stays within the frame
        corner = (torch.rand(count, 2, generator=draw) * (room + 1)).long() + (-move).clamp(min=0)
        for time in range(2):
            place = corner[:, None] + inside + time * move[:, None]
            frames[time][every, place[..., 0], place[..., 1]] = texture
            owner[time][every, place[..., 0], place[..., 1]] = sprite
    there = owner[0] >= 0
    flow = moves[every[..., None], owner[0].clamp(min=0)] * there[..., None]
    grid = torch.stack(torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij"), -1)
    to = grid + flow
    seen = there & (owner[1][every[..., None], to[..., 0], to[..., 1]] == owner[0])
    return Films(frames[0], frames[1], flow, seen)


def shown(second: Int[Tensor, "n s s"], share: Float[Tensor, " n"], draw: torch.Generator) -> Int[Tensor, "n s s"]:
    """The second frame with all but a share of its patches hidden."""
    here = torch.rand(second.shape, generator=draw) < share[:, None, None]
    return torch.where(here, second, HIDDEN)


def ids_of(first: Int[Tensor, "n s s"], second: Int[Tensor, "n s s"]) -> Int[Tensor, "n t"]:
    """What the predictor takes: the first frame's patches, then the second's."""
    return torch.cat([first.flatten(1), second.flatten(1)], 1)


class Batch(NamedTuple):
    ids: Int[Tensor, "b t"]
    second: Int[Tensor, "b p"]


class Predictor(TrainableModule):
    """Trainable: mean cross-entropy of the hidden patches, in nats. forward: ids -> a score for each colour at every patch of
    the second frame.

    Gated convolutions (Dauphin et al. 2017, arXiv:1612.08083): they tell which way things move around each patch, and this
    gates what of the first frame is within reach of it.
    """

    rate = 5e-3

    def __init__(self, *, channels: int, layers: int, seed: int = 0):
        super().__init__()
        self.settings = {"channels": channels, "layers": layers, "seed": seed}
        colours = len(PALETTE)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.begins = nn.Conv2d(2 * colours + 1, 2 * channels, 5, padding=2)
            self.layers = nn.ModuleList(nn.Conv2d(channels, 2 * channels, 3, padding=1) for _ in range(layers))
            self.within_reach = nn.Conv2d(colours, 2 * channels, 5, padding=2)
            self.way = nn.Conv2d(channels, 2 * channels, 1)
            self.says = nn.Conv2d(2 * channels, colours, 1)

    def forward(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, "b p c"]:
        first, second = ids.view(len(ids), 2, SIDE, SIDE).unbind(1)
        first = functional.one_hot(first, len(PALETTE)).movedim(3, 1).float()
        second = functional.one_hot(second, HIDDEN + 1).movedim(3, 1).float()
        x = functional.glu(self.begins(torch.cat([first, second], 1)), 1)
        for layer in self.layers:
            x = x + functional.glu(layer(x), 1)
        return self.says(self.within_reach(first) * self.way(x).sigmoid()).flatten(2).transpose(1, 2)

    def objective(self, batch: Batch, *, progress: float) -> dict[str, Tensor]:
        """{"loss": nats a patch}."""
        hidden = batch.ids[:, SIDE * SIDE :] == HIDDEN
        return {"loss": functional.cross_entropy(self(batch.ids)[hidden], batch.second[hidden])}


def moving_sprites(
    seed: int = 0,
    *,
    channels: int = 32,
    layers: int = 2,
    seen: int = 32_000,
    batch: int = 16,
    out: Path | str | None = None,
    progress: Progress = quiet,
) -> ModuleSubject:
    """A predictor of the next frame's patches, trained in a minute on one core (after Kim et al. 2025, arXiv:2507.09082).

    seed: of the weights and the films. channels, layers: of the convolutions. seen: films in training, each once; 0 leaves the
    network untrained. out: a folder for checkpoints and the result, from which the same call takes up its work. Site: "logits",
    a score for each colour at every patch of the second frame. Raises UsageError for numbers that cannot be; Interrupted,
    after saving, when asked to stop.
    """
    if min(channels, batch) < 1 or layers < 0 or 0 < seen < batch or seen < 0:
        raise UsageError(
            f"channels={channels}, layers={layers}, seen={seen}, batch={batch}: expected channels and a batch from 1, and no "
            "films or at least a batch of them."
        )
    model = Predictor(channels=channels, layers=layers, seed=seed)
    if seen:
        plan = Plan(rows=seen, batch=batch, warmup=0.05, decay=0.4, seed=seed)
        fit(model, Drawn(_batch, {"moving sprites": seed}, first=APART), plan, out=out, progress=progress)
    model.requires_grad_(False)
    example = torch.zeros(1, 2 * SIDE * SIDE, dtype=torch.long)
    return wrap(model, sites={}, name=f"moving-sprites-{seed}", example=example)


def _batch(size: int, seed: int) -> Batch:
    """How much is shown of the second frame differs from film to film."""
    some, draw = films(size, seed=seed), torch.Generator().manual_seed(seed)
    visible = shown(some.second, SHOWN * torch.rand(size, generator=draw), draw)
    return Batch(ids_of(some.first, visible), some.second.flatten(1))
