"""The several things that one neuron fires for, each drawn by itself. Nguyen, Yosinski and Clune 2016, "Multifaceted Feature
Visualization: Uncovering the Different Types of Features Learned By Each Neuron in Deep Neural Networks" (arXiv:1602.03616).

    1. Of the images given, take those that activate the neuron most.
    2. Each image's code deep in the network, by its principal components, is laid out on a plane by t-SNE.
    3. k-means on the plane: every cluster is a facet. The mean of the images nearest to its centre is where drawing starts.
    4. Activation maximisation from there. A step goes up the gradient of the neuron, as far as the mean size of the gradient
       over pixels allows; after each step the image is denoised by total variation (Chambolle 2004) and kept within 0 and 1.
       Phases: the whole image, strongly smoothed (a blurred start); the whole image, finer; its middle alone, so that one
       object is drawn and not fragments of many (centre-biased); the whole image again, for a few steps.

The paper draws at 1.2 times the size in the second phase and jitters; here images keep their size.
A facet is not taken on trust: each explanation says what its image activates, what its mean image does, and, as a control, what
the mean of as many images does that are drawn from all of them.
Letters: n images, c channels, h and w sides, d width of the code, f facets.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from actscope.core.errors import BadInput, Interrupted
from actscope.core.explanation import Explanation
from actscope.core.inputs import Inputs
from actscope.core.progress import Progress, quiet, stop_requested
from actscope.core.score import Score
from actscope.core.site import Site
from actscope.core.subject import Subject
from actscope.corpora._parts.extra import package

__all__ = ["facets"]

_BATCH = 256  # images run at a time


class Phase(NamedTuple):
    """Steps of drawing. margin: share of each side, at both ends, that is left as it is. rate: the mean change of a pixel, at
    first and at last; smooth: the weight of total variation, likewise."""

    steps: int
    margin: float
    rate: tuple[float, float]
    smooth: tuple[float, float]


PHASES = (  # steps, margins and rates (of 255) as in the authors' code
    Phase(190, 0.0, (1 / 255, 2 / 255), (0.02, 0.02)),
    Phase(150, 0.0, (1 / 255, 1 / 255), (0.02, 0.005)),
    Phase(20, 0.22, (2 / 255, 2 / 255), (0.01, 0.005)),
    Phase(10, 0.0, (2 / 255, 2 / 255), (0.01, 0.005)),
)


def facets(
    subject: Subject,
    images: Float[Tensor, "n c h w"],
    neuron: int,
    *,
    site: str | Site = "logits",
    code: str | Site = "final_norm",
    most: int = 1300,
    components: int = 50,
    clusters: int = 10,
    nearest: int = 15,
    phases: Sequence[Phase] = PHASES,
    enough: float = math.inf,
    seed: int = 0,
    progress: Progress = quiet,
) -> list[Explanation]:
    """What one neuron of a vision model fires for, a picture for each kind of thing (Nguyen et al. 2016, arXiv:1602.03616).

    images: with values from 0 to 1, which the subject takes as they are. neuron: which number of `site`; a map of channels is
    read as its mean over places. code: the site whose vectors are clustered. most: how many images that activate the neuron
    most; components: of their codes; clusters: how many facets; nearest: images a mean is taken of. phases: of drawing;
    enough: how much a drawing need activate, after which it is left as it is (the paper draws on to the end).

    One explanation a facet, those of most images first; its `latent` is the neuron. evidence: "facet", "images" (how many are
    of it), "nearest" (the numbers of those its mean is of), "mean" and "image" (nested lists, c h w). scores:
    "facet_activation", how much the drawn image activates the neuron, in the site's unit; parts: how much the mean image and
    the images nearest to the centre do; control: how much the mean of as many images does that are drawn from all of them.

    Raises BadInput for images or numbers that cannot be, UnknownSite, MissingExtra without scikit-learn, Interrupted.
    """
    where, deep = (one if isinstance(one, Site) else Site.parse(one) for one in (site, code))
    values = activations(subject, images, where)
    _check(images, values, neuron, clusters, nearest, most)
    top = values[:, neuron].argsort(descending=True)[: min(most, len(images))]
    found = facets_of(activations(subject, images[top], deep), components=components, clusters=clusters, seed=seed)
    groups = [top[group[:nearest]] for group in found]
    means = torch.stack([images[group].mean(0) for group in groups])
    drawn = maximised(subject, means, neuron, site=where, phases=phases, enough=enough, progress=progress)
    draw = torch.Generator().manual_seed(seed)
    others = torch.stack([images[top[torch.randperm(len(top), generator=draw)[: len(group)]]].mean(0) for group in groups])
    reached, started, mixed = (activations(subject, x, where)[:, neuron].tolist() for x in (drawn, means, others))
    explained = []
    for facet, group in enumerate(groups):
        evidence = {"facet": facet, "images": len(found[facet]), "nearest": group.tolist()}
        evidence |= {"mean": means[facet].tolist(), "image": drawn[facet].tolist()}
        parts = {"mean image": started[facet], "images": float(values[group, neuron].mean())}
        score = Score(
            "facet_activation",
            "facet_activation@1",
            reached[facet],
            str(where),
            "higher",
            len(group),
            None,
            mixed[facet],
            parts,
        )
        says = f"facet {facet + 1} of {len(groups)}: like images {', '.join(map(str, group[:3].tolist()))}"
        explained.append(Explanation(neuron, says, "facets", None, evidence, (score,)))
    return explained


def facets_of(codes: Float[Tensor, "n d"], *, components: int, clusters: int, seed: int) -> list[Int[Tensor, " _"]]:
    """Steps 2 and 3: the rows of each facet, those nearest to its centre first; the largest facet first."""
    codes = codes - codes.mean(0)
    _, _, directions = torch.linalg.svd(codes.double(), full_matrices=False)
    low = (codes.double() @ directions[:components].T).numpy()
    perplexity = min(30.0, (len(low) - 1) / 3)
    tsne = package("sklearn.manifold", "scikit-learn", "facets").TSNE(perplexity=perplexity, init="pca", random_state=seed)
    plane = tsne.fit_transform(low)
    kmeans = package("sklearn.cluster", "scikit-learn", "facets").KMeans(clusters, n_init=10, random_state=seed).fit(plane)
    far, of = torch.tensor(kmeans.transform(plane)), torch.tensor(kmeans.labels_)
    groups = [far[:, one].argsort()[of[far[:, one].argsort()] == one] for one in range(clusters)]
    return sorted(groups, key=len, reverse=True)


def maximised(
    subject: Subject, starts: Float[Tensor, "f c h w"], neuron: int, *, site: Site, phases: Sequence[Phase] = PHASES,
    enough: float = math.inf, progress: Progress = quiet,
) -> Float[Tensor, "f c h w"]:  # fmt: skip
    """Step 4, from every start. enough: an image that activates the neuron so much is drawn no further. Raises Interrupted when
    asked to stop."""
    x = starts.clone()
    for number, phase in enumerate(phases):
        progress(number, len(phases), "phases of drawing")
        inside = _inside(x, phase.margin)
        for step in range(phase.steps):
            if stop_requested():
                raise Interrupted(f"Stopped in phase {number + 1} of {len(phases)}; nothing was saved: run it again.")
            part = step / phase.steps
            rate, smooth = (first + (last - first) * part for first, last in (phase.rate, phase.smooth))
            x = x.detach().requires_grad_(True)
            with torch.enable_grad():
                value = _pooled(subject.run(Inputs(pixels=x), read=[site], grad=True).acts[site])[:, neuron]
                (gradient,) = torch.autograd.grad(value.sum(), x)
            gradient = gradient * inside
            size = gradient.abs().flatten(1).mean(1).clamp(min=1e-12)[:, None, None, None]
            after = denoised((x.detach() + rate * gradient / size).clamp(0, 1), smooth)
            x = torch.where((value < enough)[:, None, None, None], after, x.detach())
    progress(len(phases), len(phases), "phases of drawing")
    return x.detach()


def denoised(x: Float[Tensor, "n c h w"], weight: float, rounds: int = 20) -> Float[Tensor, "n c h w"]:
    """The image u of least |u - x|^2 / 2 + weight * (total variation of u), channel by channel, by Chambolle's dual steps."""
    if weight <= 0:
        return x
    dual = torch.zeros(2, *x.shape, device=x.device)
    for _ in range(rounds):
        slope = _slopes(_divergence(dual) - x / weight)
        dual = (dual + slope / 4) / (1 + slope.square().sum(0).sqrt() / 4)
    return x - weight * _divergence(dual)


def activations(subject: Subject, images: Float[Tensor, "n c h w"], site: Site) -> Float[Tensor, "n d"]:
    """A vector an image: of maps the mean over places, of tokens the mean over tokens."""
    with torch.no_grad():
        return torch.cat([_pooled(subject.run(Inputs(pixels=x), read=[site]).acts[site]) for x in images.split(_BATCH)])


def _pooled(x: Tensor) -> Float[Tensor, "n d"]:
    return x.mean((2, 3)) if x.dim() == 4 else x.mean(1) if x.dim() == 3 else x


def _inside(x: Tensor, margin: float) -> Float[Tensor, "h w"]:
    high, wide = (int(margin * side) for side in x.shape[2:])
    return functional.pad(torch.ones(x.shape[2] - 2 * high, x.shape[3] - 2 * wide), (wide, wide, high, high)).to(x)


def _slopes(x: Tensor) -> Tensor:
    """To the next row and the next column; 0 at the end."""
    return torch.stack([functional.pad(x.diff(dim=2), (0, 0, 0, 1)), functional.pad(x.diff(dim=3), (0, 1))])


def _divergence(dual: Tensor) -> Tensor:
    """Minus the adjoint of `_slopes`."""
    down, right = dual[0, :, :, :-1], dual[1, :, :, :, :-1]
    high = functional.pad(down, (0, 0, 0, 1)) - functional.pad(down, (0, 0, 1, 0))
    return high + functional.pad(right, (0, 1)) - functional.pad(right, (1, 0))


def _check(images: Tensor, values: Tensor, neuron: int, clusters: int, nearest: int, most: int) -> None:
    if not 0 <= neuron < values.shape[1]:
        raise BadInput(f"neuron={neuron}; expected one from 0 to {values.shape[1] - 1}.")
    if min(clusters, nearest) < 1 or min(most, len(images)) < max(4, clusters):
        raise BadInput(
            f"{len(images)} images, most={most}, clusters={clusters}, nearest={nearest}; expected numbers from 1, and at least "
            f"{max(4, clusters)} images."
        )
