"""A network's pattern of active ReLUs names each training example, and simple methods tell the class from it. He, Lei, Ji and
Tao 2021, "Neural networks behave as hash encoders: An empirical study" (arXiv:2101.05490), on digits of 8 x 8 pixels.

    1. Train networks with one hidden layer of ReLU, of several widths, by seed, without deforming the pictures.
    2. The neural code of a picture: for every unit of the hidden layer, whether it is above 0. Pictures of one code lie in one
       linear region of the network.
    3. Determinism: the redundancy ratio, (pictures - codes that occur) / pictures, in training and elsewhere.
    4. Categorization: the class from the code alone, by logistic regression (one against one) and the 9 nearest codes, both
       fitted on the training pictures and judged on others; and by 10 means of the judged codes, matched with classes one to
       one.
    5. What the paper leaves open: is it training that makes the codes so? Control: the same of untrained networks. Beside it,
       logistic regression of the pixels themselves, and of codes fitted to shuffled classes.

On these digits the claim holds and training has no part in it: the codes of a wide network before training are as unique and
tell the class as well (LOG.md). `holds` speaks of the claim alone.

Letters: n pictures, m units, k classes.
"""

import time
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from actscope.core.files import sha256
from actscope.core.inputs import Inputs
from actscope.core.progress import Progress, quiet
from actscope.core.reproduction import Reproduction
from actscope.core.subject import Subject
from actscope.corpora._parts.extra import package
from actscope.organisms.digits import CLASSES, TRAINED, digits, pictures
from actscope.reproductions._parts.seeds import beyond, gathered, means
from actscope.scores._parts.assignment import assignment

__all__ = ["hash_encoder"]

CLAIM = (
    "In a sufficiently wide network almost every training example has a code of its own (redundancy of at most 1%), and "
    "logistic regression on codes is within 3 points of the network; in a narrow one at least a tenth of codes are redundant."
)
ALONE, WITHIN, SHARED = 0.01, 0.03, 0.1
NARROW, WIDE = 3, 1000  # the narrowest of the paper; its widest, 100, is not yet wide enough for 8 x 8 pixels


def hash_encoder(
    *,
    seeds: Sequence[int] = (0, 1, 2),
    widths: Sequence[int] = (NARROW, 10, 30, 100, 300, WIDE),
    epochs: int = 100,
    full: bool = False,
    progress: Progress = quiet,
) -> Reproduction:
    """Neural codes of digits: unique in training, and enough to tell the class (He et al. 2021, arXiv:2101.05490).

    seeds: of split, weights and order. widths: of the hidden layer; the first is judged as narrow and the last as wide. full:
    five seeds, and the chart over training time and number of pictures at the widest. holds: in every seed the wide network's
    redundancy in training and its logistic regression, and the narrow network's redundancy, reach their bars; and over seeds
    (95%, Student's t) the narrow network's redundancy is above the wide one's.
    """
    began = time.monotonic()
    if full:
        seeds = tuple(range(5))
    found: list[dict[str, float]] = []
    for number, seed in enumerate(seeds):
        progress(number, len(seeds), f"seed {seed}")
        found.append(_measured(seed, widths, epochs, full))
    progress(len(seeds), len(seeds), "seeds")
    figures = gathered(found)
    mean = means(figures)
    narrow, wide = (f"at {width}" for width in (widths[0], widths[-1]))
    codes, network = figures[f"logistic regression {wide}"], figures[f"network {wide}"]
    redundant = {width: figures[f"redundancy {width}"] for width in (narrow, wide)}
    holds = (
        max(redundant[wide]) <= ALONE
        and min(redundant[narrow]) >= SHARED
        and min(code - own for code, own in zip(codes, network, strict=True)) >= -WITHIN
        and beyond(redundant[narrow], redundant[wide])
    )
    return Reproduction(
        "hash-encoder", CLAIM, mean[f"logistic regression {wide}"], mean[f"network {wide}"],
        mean[f"logistic regression {wide}, untrained"], "accuracy on pictures not trained on", tuple(seeds), holds,
        time.monotonic() - began, figures,
        {"digits": sha256(repr([pictures(seed).train.labels.tolist() for seed in seeds]).encode())},
    )  # fmt: skip


def _measured(seed: int, widths: Sequence[int], epochs: int, full: bool) -> dict[str, float]:
    split = pictures(seed)
    seen, new = (part.pixels.flatten(1) for part in (split.train, split.judge))
    found = {"logistic regression of pixels": _logistic(seen, split.train.labels, new, split.judge.labels)}
    for width in widths:
        found |= _network(seed, width, epochs, f"at {width}")
    found |= _shuffled(seed, widths[-1], epochs)
    found |= _network(seed, widths[-1], 0, f"at {widths[-1]}, untrained")
    found |= _network(seed, widths[0], 0, f"at {widths[0]}, untrained")
    if full:
        for few in (1, 3, 10, 30):
            found |= _network(seed, widths[-1], few, f"at {widths[-1]}, {few} epochs")
        for seen in (100, 300):
            found |= _network(seed, widths[-1], epochs * TRAINED // seen, f"at {widths[-1]}, {seen} pictures", seen)
    return found


def _network(seed: int, width: int, epochs: int, of: str, seen: int = TRAINED) -> dict[str, float]:
    """Steps 2 to 4 of one network."""
    subject, split = digits(seed, kind="mlp", hidden=(width,), epochs=epochs, seen=seen, moved=False)
    train, judge = split.train, split.judge
    known, new = (neural_codes(subject, part) for part in (train.pixels[:seen], judge.pixels))
    labels = train.labels[:seen]
    logits = subject.run(Inputs(pixels=judge.pixels)).logits
    assert logits is not None, "a classifier has logits"
    near = package("sklearn.neighbors", "scikit-learn", "neural codes").KNeighborsClassifier(9, metric="hamming")
    return {
        f"network {of}": float((logits.argmax(1) == judge.labels).float().mean()),
        f"redundancy {of}": redundancy(known),
        f"redundancy of other pictures {of}": redundancy(new),
        f"logistic regression {of}": _logistic(known, labels, new, judge.labels),
        f"9 nearest codes {of}": float(near.fit(known.numpy(), labels.numpy()).score(new.numpy(), judge.labels.numpy())),
        f"10 means of codes {of}": _means(new, judge.labels),
    }


def _shuffled(seed: int, width: int, epochs: int) -> dict[str, float]:
    """The control: regression on the codes, fitted to classes dealt out anew."""
    subject, split = digits(seed, kind="mlp", hidden=(width,), epochs=epochs, moved=False)
    known, new = (neural_codes(subject, part.pixels) for part in (split.train, split.judge))
    anew = split.train.labels[torch.randperm(TRAINED, generator=torch.Generator().manual_seed(seed))]
    return {f"logistic regression at {width}, shuffled classes": _logistic(known, anew, new, split.judge.labels)}


def neural_codes(subject: Subject, images: Float[Tensor, "n 1 h w"]) -> Bool[Tensor, "n m"]:
    """Which units of the hidden layers are above 0."""
    sites = [site for site in subject.order if site.kind == "mlp_pre"]
    acts = subject.run(Inputs(pixels=images), read=sites).acts
    return torch.cat([acts[site] > 0 for site in sites], 1)


def redundancy(codes: Bool[Tensor, "n m"]) -> float:
    """The share of codes that occurred before."""
    return 1 - len(codes.unique(dim=0)) / len(codes)


def _logistic(x: Tensor, labels: Int[Tensor, " n"], new: Tensor, true: Int[Tensor, " j"]) -> float:
    """The accuracy on new rows of a regression for each pair of classes, fitted to the others."""
    pairs = package("sklearn.multiclass", "scikit-learn", "neural codes").OneVsOneClassifier
    one = package("sklearn.linear_model", "scikit-learn", "neural codes").LogisticRegression(max_iter=1000)
    return float(pairs(one).fit(x.float().numpy(), labels.numpy()).score(new.float().numpy(), true.numpy()))


def _means(codes: Bool[Tensor, "n m"], labels: Int[Tensor, " n"]) -> float:
    """The share of rows in the cluster of their class, when clusters and classes are matched one to one for the best."""
    clusters = min(CLASSES, len(codes.unique(dim=0)))  # no more than there are codes
    kmeans = package("sklearn.cluster", "scikit-learn", "neural codes").KMeans(clusters, n_init=3, random_state=0)
    cluster = torch.tensor(kmeans.fit_predict(codes.float().numpy()), dtype=torch.long)
    count = torch.zeros(clusters, CLASSES).index_put((cluster, labels), torch.ones(len(labels)), accumulate=True)
    return float(count.gather(1, assignment(count)[:, None]).sum() / len(labels))
