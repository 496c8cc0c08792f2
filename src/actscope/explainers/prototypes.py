"""A classifier that decides by how near an input is to learned cases, which can be looked at. Li, Liu, Chen and Rudin 2018,
"Deep Learning for Case-Based Reasoning through Prototypes" (arXiv:1710.04806).

    1. An encoder f takes an input to a code, a decoder g takes it back. m prototypes p are vectors among the codes.
    2. The scores of the classes are a weighted sum, without bias, of the squared distances to the prototypes:
                                                                                       W d,  d_j = |f(x) - p_j|^2
    3. What is descended on is, with weights of 20, 1, 1 and 1 (those of the authors' code),
         the cross-entropy
         + the mean squared error of g(f(x)), summed over a picture
         + R1: of every prototype, the squared distance to the input of the batch that is nearest to it, on average
         + R2: of every input, the squared distance to the prototype that is nearest to it, on average
    4. A prototype is of the class whose weight is lowest, for being near to it raises that class most. It is shown as g(p).

R1 puts prototypes where the decoder knows its way, R2 gives inputs a prototype to be like. Whether a prototype is what it is
shown as is not taken on trust: each explanation says what the network itself calls the decoded picture, and how many of the
inputs that are nearest to the prototype are of its class.
Letters: n inputs, c channels, h and w sides, e numbers of a code, m prototypes, k classes.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from actscope.core.dictionary import TrainableModule
from actscope.core.errors import BadInput
from actscope.core.explanation import Explanation
from actscope.core.progress import Progress, quiet
from actscope.core.score import Score
from actscope.training.fit import fit
from actscope.training.plan import Plan
from actscope.training.shuffled import Shuffled

__all__ = ["prototypes"]

_SHOWN = 5  # inputs named that are nearest to a prototype


class Cases(NamedTuple):
    """A trained network, which `act.wrap` makes a subject of, and an explanation of each of its prototypes."""

    network: "PrototypeNetwork"
    explanations: list[Explanation]


def prototypes(
    images: Float[Tensor, "n c h w"],
    labels: Int[Tensor, " n"],
    *,
    encoder: nn.Module,
    decoder: nn.Module,
    count: int = 15,
    classification: float = 20.0,
    reconstruction: float = 1.0,
    near_inputs: float = 1.0,
    near_prototypes: float = 1.0,
    varied: Callable[[Tensor], Tensor] | None = None,
    judge: tuple[Float[Tensor, "j c h w"], Int[Tensor, " j"]] | None = None,
    epochs: int = 100,
    batch: int = 50,
    lr: float = 2e-3,
    seed: int = 0,
    progress: Progress = quiet,
) -> Cases:
    """A network that decides by prototypes, and what each of them is (Li et al. 2018, arXiv:1710.04806).

    images: with values from 0 to 1 where the decoder ends so. encoder: images -> codes [n e]; decoder: codes -> images; both
    are trained in place. count: of prototypes. classification, reconstruction, near_inputs (R1), near_prototypes (R2): the
    weights of the losses. varied: how images are changed in training, with torch's generator (the paper deforms them
    elastically; None: not at all). judge: images and labels that `scores` and "nearest" are taken from; best others than those
    of training (None: those). seed: of the prototypes, the weights of the classes and the order.

    One explanation a prototype. evidence: "class", "decoded class" (what the network calls the decoded picture), "image"
    (nested lists, c h w), "weights" (one a class), "nearest" (the numbers of the judged images nearest to it), "nearest
    prototype of" (of how many judged images it is the nearest). scores: "case_purity", the share of these that have its class;
    control: the share of all judged images.

    Raises BadInput for images and labels that do not match, and for numbers that cannot be.
    """
    shown, true = (images, labels) if judge is None else judge
    _check(images, labels, shown, true, count, epochs, batch)
    weights = (classification, reconstruction, near_inputs, near_prototypes)
    width = encoder(images[:1]).shape[1]
    network = PrototypeNetwork(encoder, decoder, count, width, int(labels.max()) + 1, weights=weights, varied=varied, seed=seed)
    size = min(batch, len(images))
    plan = Plan(rows=epochs * (len(images) // size) * size, batch=size, lr=lr, decay=0.5, seed=seed)
    fit(network, Shuffled(Labelled(images, labels), "prototypes"), plan, progress=progress)
    network.requires_grad_(False)
    return Cases(network, network.explained(shown, true))


class Labelled(NamedTuple):
    """A batch."""

    images: Float[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]

    def to(self, device: str) -> "Labelled":
        return Labelled(self.images.to(device), self.labels.to(device))


class PrototypeNetwork(TrainableModule):
    """Trainable: step 3. forward: images -> scores of the classes."""

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, count: int, width: int, classes: int, *,
        weights: tuple[float, float, float, float], varied: Callable[[Tensor], Tensor] | None = None, seed: int = 0,
    ):  # fmt: skip
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.encoder, self.decoder = encoder, decoder
        self.prototypes = nn.Parameter(torch.rand(count, width, generator=draw))
        self.last = nn.Linear(count, classes, bias=False)
        with torch.no_grad():
            self.last.weight.copy_(torch.rand(classes, count, generator=draw))
        self.weights, self.varied = weights, varied

    def distances(self, codes: Float[Tensor, "n e"]) -> Float[Tensor, "n m"]:
        """Squared, from each code to each prototype."""
        return (codes[:, None] - self.prototypes).square().sum(2)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        return self.last(self.distances(self.encoder(x)))

    def objective(self, batch: Labelled, *, progress: float) -> dict[str, Tensor]:
        """{"loss", "cross_entropy" (nats), "reconstruction", "near_inputs", "near_prototypes"}."""
        x = batch.images if self.varied is None else self.varied(batch.images)
        codes = self.encoder(x)
        distances = self.distances(codes)
        terms = {
            "cross_entropy": functional.cross_entropy(self.last(distances), batch.labels),
            "reconstruction": (self.decoder(codes) - x).square().flatten(1).sum(1).mean(),
            "near_inputs": distances.min(0).values.mean(),
            "near_prototypes": distances.min(1).values.mean(),
        }
        loss = torch.stack([weight * term for weight, term in zip(self.weights, terms.values(), strict=True)]).sum()
        return {"loss": loss, **terms}

    @property
    def classes(self) -> Int[Tensor, " m"]:
        """Step 4: the class of every prototype."""
        return self.last.weight.argmin(0)

    @torch.no_grad()
    def decoded(self) -> Float[Tensor, "m c h w"]:
        """Every prototype as a picture."""
        return self.decoder(self.prototypes)

    @torch.no_grad()
    def explained(self, images: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"]) -> list[Explanation]:
        """An explanation of each prototype, by these images."""
        pictures, distances = self.decoded(), self.distances(self.encoder(images))
        called, nearest = self(pictures).argmax(1), distances.argmin(1)
        found = []
        for number, kind in enumerate(self.classes.tolist()):
            mine = labels[nearest == number]
            evidence = {
                "class": kind,
                "decoded class": int(called[number]),
                "image": pictures[number].tolist(),
                "weights": self.last.weight[:, number].tolist(),
                "nearest": distances[:, number].argsort()[:_SHOWN].tolist(),
                "nearest prototype of": len(mine),
            }
            says = f"a case of class {kind}; drawn, the network calls it class {int(called[number])}"
            purity = _purity(mine == kind, float((labels == kind).float().mean()))
            found.append(Explanation(number, says, "prototypes", None, evidence, (purity,)))
        return found


def _purity(right: Tensor, base: float) -> Score:
    """With Wilson's interval."""
    n = len(right)
    share, z = float(right.float().mean()) if n else 0.0, 1.96
    middle, half = share + z * z / (2 * max(n, 1)), z * (share * (1 - share) / max(n, 1) + (z / (2 * max(n, 1))) ** 2) ** 0.5
    spread = 1 + z * z / max(n, 1)
    interval = ((middle - half) / spread, (middle + half) / spread) if n else None
    return Score("case_purity", "case_purity@1", share, "share of images", "higher", n, interval, base)


def _check(images: Tensor, labels: Tensor, shown: Tensor, true: Tensor, count: int, epochs: int, batch: int) -> None:
    if len(images) != len(labels) or len(shown) != len(true) or not len(images) or not len(shown):
        raise BadInput(
            f"{len(images)} images with {len(labels)} labels, {len(shown)} with {len(true)} to judge by; expected a label for "
            "each image, and at least one image."
        )
    if min(count, epochs, batch) < 1:
        raise BadInput(f"count={count}, epochs={epochs}, batch={batch}; expected numbers from 1.")
