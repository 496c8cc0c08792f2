"""Handwritten digits, 8 x 8 pixels, and classifiers of them: the vision models of the house.

The pictures are the 1,797 that scikit-learn ships (Alpaydin and Kaynak 1998, UCI optical recognition of handwritten digits). A
seed splits them in three: to train on, to choose settings on, to judge on. Three kinds of network:

    cnn   four convolutions, two of them with stride 2, end in a code of 40 numbers, from which a linear layer tells the digit
    mlp   hidden layers of ReLU
    vit   a small vision transformer: patches of 2 x 2 pixels and a class token

Letters: n and b pictures, k classes, w width.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import nn

from actscope.core.errors import UsageError
from actscope.core.files import sha256
from actscope.core.progress import Progress, quiet
from actscope.core.site import Site
from actscope.corpora._parts.extra import package
from actscope.organisms._pictures import Classifier, Patches, Pictures
from actscope.subjects.module import ModuleSubject, wrap
from actscope.training.fit import fit
from actscope.training.plan import Plan
from actscope.training.shuffled import Shuffled

__all__ = ["digits"]

SIDE, CLASSES, CODE = 8, 10, 40
TRAINED, CHOSEN = 1000, 200  # pictures to train on and to choose on; the other 597 are to judge on
Kind = Literal["cnn", "mlp", "vit"]


class Split(NamedTuple):
    """Three sets of pictures that share none."""

    train: Pictures
    choose: Pictures
    judge: Pictures


def pictures(seed: int = 0) -> Split:
    """The digits, split by a hash of each picture with the seed. Raises MissingExtra without scikit-learn."""
    found = package("sklearn.datasets", "scikit-learn", "the handwritten digits").load_digits()
    pixels = torch.tensor(found.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(found.target, dtype=torch.long)
    order = sorted(range(len(pixels)), key=lambda number: sha256(f"{seed} {pixels[number].tolist()}".encode()))
    parts = torch.tensor(order).split([TRAINED, CHOSEN, len(order) - TRAINED - CHOSEN])
    return Split(*(Pictures(pixels[part], labels[part]) for part in parts))


def encoder(channels: int = 32) -> nn.Sequential:
    """The body of `cnn`: a picture -> its code, 10 channels of 2 x 2."""
    layers: list[nn.Module] = []
    for before, after, stride in ((1, channels, 1), (channels, channels, 2), (channels, channels, 1), (channels, 10, 2)):
        layers += [nn.Conv2d(before, after, 3, stride=stride, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten())


def decoder(channels: int = 32) -> nn.Sequential:
    """The way back: a code -> a picture with pixels from 0 to 1."""
    layers: list[nn.Module] = [nn.Unflatten(1, (10, 2, 2))]
    for before, after, stride in ((10, channels, 2), (channels, channels, 1), (channels, channels, 2)):
        layers += [nn.ConvTranspose2d(before, after, 3, stride=stride, padding=1, output_padding=stride - 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(channels, 1, 3, padding=1), nn.Sigmoid())


class Trained(NamedTuple):
    """What `digits` gives: the subject and the pictures, of which it was trained on `pictures.train`."""

    subject: ModuleSubject
    pictures: Split


def digits(
    seed: int = 0,
    *,
    kind: Kind = "cnn",
    hidden: Sequence[int] = (64,),
    width: int = 32,
    layers: int = 2,
    heads: int = 4,
    inner: int | None = None,
    relu: bool = False,
    seen: int = TRAINED,
    epochs: int = 60,
    batch: int = 50,
    lr: float | None = None,
    moved: bool = True,
    attack: float = 0.0,
    out: Path | str | None = None,
    progress: Progress = quiet,
) -> Trained:
    """A classifier of handwritten digits, trained in seconds on one core.

    seed: of the split, the weights and the order. kind: see above. hidden: the widths of `mlp`'s layers. width, layers, heads,
    inner, relu: of `vit`; width is the channels of `cnn` too, inner the neurons of each MLP (None: twice the width), relu
    whether they are ReLU in place of GELU. seen: how many of the pictures of training are used; epochs: 0 leaves the network
    untrained. moved: whether pictures are shifted and turned in training; attack: by how much pixels are then changed against
    the network, at most (adversarial training). out: a folder for checkpoints and the result, from which the same call takes up
    its work.

    Sites: of `cnn` "layers.L.resid_post" (after each ReLU) and "final_norm" (the code); of `mlp` "layers.L.mlp_pre" and
    "layers.L.mlp_post"; of `vit` "embed", "layers.L.attn_out", "layers.L.mlp_pre", "layers.L.mlp_post", "layers.L.mlp_out" and
    "layers.L.resid_post" with tokens, and "final_norm"; "logits" of all. Raises UsageError for sizes that cannot be,
    MissingExtra without scikit-learn.
    """
    sizes = (*hidden, width, layers, heads, batch, 1 if inner is None else inner)
    if not hidden or min(sizes) < 1 or epochs < 0 or not batch <= seen <= TRAINED or (kind == "vit" and width % heads):
        raise UsageError(
            f"hidden={hidden}, width={width}, layers={layers}, heads={heads}, seen={seen}, epochs={epochs}, batch={batch}: "
            f"expected numbers from 1, a width that heads divide, and from a batch to {TRAINED} pictures."
        )
    split = pictures(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = _parts(kind, hidden, width, layers, heads, inner, relu)
        model = Classifier(*parts, settings={"kind": kind, "seed": seed}, moved=moved, attack=attack)
    if epochs:
        source = Shuffled(Pictures(*(part[:seen] for part in split.train)), {"digits": seed, "seen": seen})
        plan = Plan(rows=epochs * seen, batch=batch, lr=lr, warmup=0.05, decay=0.5, seed=seed)
        fit(model, source, plan, out=out, progress=progress)
    model.requires_grad_(False)
    subject = wrap(model, sites=_sites(kind, len(hidden), layers), name=f"digits-{kind}-{seed}", example=split.train.pixels[:1])
    return Trained(subject, split)


def _parts(
    kind: Kind, hidden: Sequence[int], width: int, layers: int, heads: int, inner: int | None, relu: bool
) -> tuple[nn.Module, nn.Module]:
    """(body, head)"""
    if kind == "cnn":
        return encoder(width), nn.Linear(CODE, CLASSES)
    if kind == "mlp":
        widths = [SIDE * SIDE, *hidden]
        body: list[nn.Module] = [nn.Flatten()]
        for before, after in zip(widths, widths[1:], strict=False):
            body += [nn.Linear(before, after), nn.ReLU()]
        return nn.Sequential(*body), nn.Linear(widths[-1], CLASSES)
    if kind == "vit":
        vit = Patches(side=SIDE, patch=2, width=width, layers=layers, heads=heads, inner=inner, relu=relu)
        return vit, nn.Linear(width, CLASSES)
    raise UsageError(f"kind={kind!r}: expected cnn, mlp or vit.")


def _sites(kind: Kind, hidden: int, layers: int) -> dict[str | Site, str]:
    if kind == "cnn":
        return {**{f"layers.{layer}.resid_post": f"body.{2 * layer + 1}" for layer in range(4)}, "final_norm": "body"}
    if kind == "mlp":
        places = {"mlp_pre": 1, "mlp_post": 2}
        return {f"layers.{n}.{what}": f"body.{2 * n + at}" for n in range(hidden) for what, at in places.items()}
    places = {"attn_out": "given", "mlp_pre": "mlp.0", "mlp_post": "mlp.1", "mlp_out": "mlp", "resid_post": ""}
    block = {f"layers.{n}.{what}": f"body.blocks.{n}.{at}".rstrip(".") for n in range(layers) for what, at in places.items()}
    return {"embed": "body.embed", **block, "final_norm": "body"}
