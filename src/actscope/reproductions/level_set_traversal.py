"""From a picture, along the surface of equal confidence, to one that looks like another and is still taken for the first.
Balasubramanian, Sriramanan, Sadasivan and Feizi 2023, "Exploring Geometry of Blind Spots in Vision Models"
(arXiv:2310.19889), on a convolutional classifier of handwritten digits.

    1. A source picture s of class y, told with confidence p(s), and a target picture t of another class. x = s, v = 0.
    2. The gradient g of the cross-entropy of y at x. Of the way to the target, what does not change the confidence:
                                                                                u = (t - x) - <t - x, g> g / |g|^2
    3. A correction that raises the confidence, kept small; it vanishes where the confidence is full, for then g does:
                                                                                v <- clip(v - c g, -a, a)
       With c as large as a it outweighs the way to the target on pictures this small; c was chosen on seeds of its own.
    4. x <- clip(x + r u + v, 0, 1), until the confidence falls by more than the drop allowed, or for so many steps.
    5. How like the target is x (SSIM)? Does the confidence stay within the drop all along the straight line from s to x?
    6. Baseline: the straight line to the target, as far as the confidence stays within the drop (tried at 400 places). Control:
       the same traversal with a random direction in place of the gradient. Beside them, for it is plainer: descent on the
       distance to the target with the cross-entropy as a penalty, the best of several weights. And all of it on a classifier
       trained on adversarial pictures.

Letters: b pairs of pictures, h and w sides.
"""

import time
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from actscope.core.errors import UsageError
from actscope.core.files import sha256
from actscope.core.inputs import Inputs
from actscope.core.progress import Progress, quiet
from actscope.core.reproduction import Reproduction
from actscope.core.subject import Subject
from actscope.organisms._pictures import Pictures
from actscope.organisms.digits import digits, pictures
from actscope.reproductions._parts.seeds import beyond, gathered, means

__all__ = ["level_set_traversal"]

CLAIM = (
    "Level set traversal reaches pictures with an SSIM of at least 0.9 to a target of another class, on average, told as the "
    "source's class with a confidence at most 0.05 lower, and at least 90% of straight paths back keep that confidence."
)
ALIKE, DROP, PATHS = 0.9, 0.05, 0.9
PLACES = 20  # at which a straight path is looked at
ATTACK = 0.1  # how far, at most, a pixel is moved in adversarial training


def level_set_traversal(
    *,
    seeds: Sequence[int] = (0, 1, 2),
    sources: int = 10,
    epochs: int = 40,
    steps: int = 400,
    step: float = 1e-2,
    push: float = 2 / 255,
    gain: float = 1e-5,
    full: bool = False,
    progress: Progress = quiet,
) -> Reproduction:
    """Blind spots: pictures that look like another digit and are told as the source's (arXiv:2310.19889).

    seeds: of split, classifier and pairs; settings came about on seeds from 100 on (LOG.md). sources: pictures of each seed,
    each with a target of every other class. steps, step (r), push (a), gain (c): of the traversal. full: five seeds and three
    times the sources. holds: in every seed similarity, drop and paths reach their bars, and over seeds (95%, Student's t) the
    similarity is above the baseline's and the control's.
    """
    began = time.monotonic()
    if full:
        seeds, sources = tuple(range(5)), 3 * sources
    found: list[dict[str, float]] = []
    for number, seed in enumerate(seeds):
        progress(number, len(seeds), f"seed {seed}")
        one: dict[str, float] = {}
        for name, attack in (("", 0.0), (", adversarially trained", ATTACK)):
            subject, split = digits(seed, epochs=epochs, moved=False, attack=attack)
            figures = _measured(subject, split.judge, sources, steps, step, push, gain, seed)
            one |= {f"{what}{name}": value for what, value in figures.items()}
        found.append(one)
    progress(len(seeds), len(seeds), "seeds")
    figures = gathered(found)
    mean = means(figures)
    ours = figures["SSIM to the target"]
    holds = (
        min(ours) >= ALIKE
        and max(figures["largest drop of confidence"]) <= DROP
        and min(figures["straight paths that keep the confidence"]) >= PATHS
        and beyond(ours, *(figures[f"SSIM to the target, {rival}"] for rival in ("straight line", "random direction")))
    )
    return Reproduction(
        "level-set-traversal", CLAIM, mean["SSIM to the target"], mean["SSIM to the target, straight line"],
        mean["SSIM to the target, random direction"], "mean SSIM to the target", tuple(seeds), holds, time.monotonic() - began,
        figures, {"digits": sha256(repr([pictures(seed).judge.labels.tolist() for seed in seeds]).encode())},
    )  # fmt: skip


def _measured(
    subject: Subject, judge: Pictures, sources: int, steps: int, step: float, push: float, gain: float, seed: int
) -> dict[str, float]:
    logits = subject.run(Inputs(pixels=judge.pixels)).logits
    assert logits is not None, "a classifier has logits"
    source, target, label = pairs(judge, logits.softmax(1), sources, seed)
    reached = traverse(subject, source, target, label, steps=steps, step=step, push=push, gain=gain)
    draw = torch.Generator().manual_seed(seed)
    others = {
        "straight line": straight(subject, source, target, label),
        "penalty": penalised(subject, source, target, label, steps=steps // 4),
        "random direction": traverse(subject, source, target, label, steps=steps, step=step, push=push, gain=gain, draw=draw),
    }
    first = confidence(subject, source, label)
    alike = ssim(reached, target)
    keeps = lowest_on_path(subject, source, reached, label) >= first - DROP
    return {
        "SSIM to the target": float(alike.mean()),
        "pairs with an SSIM of 0.9": float((alike >= ALIKE).float().mean()),
        "largest drop of confidence": float((first - confidence(subject, reached, label)).max()),
        "straight paths that keep the confidence": float(keeps.float().mean()),
        "distance to the target left": float(_left(source, reached, target).mean()),
        "SSIM of source and target": float(ssim(source, target).mean()),
        **{f"SSIM to the target, {name}": float(ssim(x, target).mean()) for name, x in others.items()},
        **{f"distance to the target left, {name}": float(_left(source, x, target).mean()) for name, x in others.items()},
        "accuracy": float((logits.argmax(1) == judge.labels).float().mean()),
    }


def pairs(
    of: Pictures, told: Float[Tensor, "n k"], sources: int, seed: int
) -> tuple[Float[Tensor, "b 1 h w"], Float[Tensor, "b 1 h w"], Int[Tensor, " b"]]:
    """(sources, targets, the sources' classes): pictures told rightly with a confidence of 0.9, each with every other class.
    Raises UsageError where there are none."""
    draw = torch.Generator().manual_seed(seed)
    sure = (told.gather(1, of.labels[:, None])[:, 0] >= 0.9).nonzero()[:, 0]
    sure = sure[torch.randperm(len(sure), generator=draw)]
    first, second = [], []
    for number, source in enumerate(sure[:sources].tolist()):
        for kind in set(of.labels.tolist()) - {int(of.labels[source])}:
            those = sure[of.labels[sure] == kind]
            if len(those):
                first.append(source)
                second.append(int(those[number % len(those)]))
    if not first:
        raise UsageError("The classifier tells no two classes with a confidence of 0.9; train it longer (epochs=).")
    return of.pixels[first], of.pixels[second], of.labels[first]


def traverse(
    subject: Subject, source: Float[Tensor, "b 1 h w"], target: Float[Tensor, "b 1 h w"], label: Int[Tensor, " b"], *,
    steps: int, step: float, push: float, gain: float, drop: float = DROP, draw: torch.Generator | None = None,
) -> Float[Tensor, "b 1 h w"]:  # fmt: skip
    """Steps 1 to 4. draw: for the control, where a random direction stands in place of the gradient."""
    x, raised = source.clone(), torch.zeros_like(source)
    least = confidence(subject, source, label) - drop
    going = torch.ones(len(x), dtype=torch.bool)
    for _ in range(steps):
        gradient = _gradient(subject, x, label)
        if draw is not None:
            gradient = torch.randn(x.shape, generator=draw)
        along = (target - x) - gradient * _dot(target - x, gradient) / _dot(gradient, gradient).clamp(min=1e-30)
        raised = (raised - gain * gradient).clamp(-push, push)
        new = (x + step * along + raised).clamp(0, 1)
        going &= confidence(subject, new, label) >= least
        x = torch.where(going[:, None, None, None], new, x)
        if not going.any():
            break
    return x


def straight(
    subject: Subject, source: Float[Tensor, "b 1 h w"], target: Float[Tensor, "b 1 h w"], label: Int[Tensor, " b"],
    places: int = 400,
) -> Float[Tensor, "b 1 h w"]:  # fmt: skip
    """The last of so many places on the way to the target up to which the confidence stays within the drop."""
    x, least = source.clone(), confidence(subject, source, label) - DROP
    going = torch.ones(len(x), dtype=torch.bool)
    for part in torch.linspace(0, 1, places).tolist():
        new = source + part * (target - source)
        going &= confidence(subject, new, label) >= least
        x = torch.where(going[:, None, None, None], new, x)
    return x


def penalised(
    subject: Subject, source: Float[Tensor, "b 1 h w"], target: Float[Tensor, "b 1 h w"], label: Int[Tensor, " b"], *,
    steps: int, weights: Sequence[float] = (0.1, 1.0, 10.0),
) -> Float[Tensor, "b 1 h w"]:  # fmt: skip
    """Adam on |x - t|^2 + weight * cross-entropy, from the source; of all weights and steps the place nearest to the target
    whose confidence is within the drop."""
    least = confidence(subject, source, label) - DROP
    best, nearest = source.clone(), (source - target).square().sum((1, 2, 3))
    for weight in weights:
        x = source.clone().requires_grad_(True)
        adam = torch.optim.Adam([x], 0.02)
        for _ in range(steps):
            x.grad = weight * _gradient(subject, x.detach(), label) + 2 * (x.detach() - target)
            adam.step()
            now = x.detach().clamp(0, 1)
            x.data.copy_(now)
            far = (now - target).square().sum((1, 2, 3))
            better = (far < nearest) & (confidence(subject, now, label) >= least)
            best, nearest = torch.where(better[:, None, None, None], now, best), torch.where(better, far, nearest)
    return best


def lowest_on_path(
    subject: Subject, start: Float[Tensor, "b 1 h w"], end: Float[Tensor, "b 1 h w"], label: Int[Tensor, " b"]
) -> Float[Tensor, " b"]:
    """The lowest confidence at places on the straight line, its ends included."""
    parts = torch.linspace(0, 1, PLACES).tolist()
    return torch.stack([confidence(subject, start + part * (end - start), label) for part in parts]).amin(0)


@torch.no_grad()
def confidence(subject: Subject, x: Float[Tensor, "b 1 h w"], label: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """The probability that the subject gives each picture's class."""
    logits = subject.run(Inputs(pixels=x)).logits
    assert logits is not None, "a classifier has logits"
    return logits.softmax(1).gather(1, label[:, None])[:, 0]


def ssim(x: Float[Tensor, "b 1 h w"], y: Float[Tensor, "b 1 h w"], window: int = 7) -> Float[Tensor, " b"]:
    """Structural similarity of pictures from 0 to 1 (Wang et al. 2004): the mean over even windows, constants 0.01 and 0.03."""
    dark, flat = 0.01**2, 0.03**2
    pooled = [functional.avg_pool2d(one, window, stride=1) for one in (x, y, x * x, y * y, x * y)]
    a, b, aa, bb, ab = pooled
    alike = (2 * a * b + dark) * (2 * (ab - a * b) + flat)
    return (alike / ((a * a + b * b + dark) * (aa - a * a + bb - b * b + flat))).mean((1, 2, 3))


def _gradient(subject: Subject, x: Float[Tensor, "b 1 h w"], label: Int[Tensor, " b"]) -> Float[Tensor, "b 1 h w"]:
    """Of each picture's cross-entropy."""
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = subject.run(Inputs(pixels=x), grad=True).logits
        assert logits is not None, "a classifier has logits"
        return torch.autograd.grad(functional.cross_entropy(logits, label, reduction="sum"), x)[0]


def _dot(a: Tensor, b: Tensor) -> Float[Tensor, "b 1 1 1"]:
    return (a * b).sum((1, 2, 3), keepdim=True)


def _left(source: Tensor, x: Tensor, target: Tensor) -> Float[Tensor, " b"]:
    """The share of the way to the target that is left."""
    return (x - target).flatten(1).norm(dim=1) / (source - target).flatten(1).norm(dim=1)
