"""An index of principal directions: 25 times smaller, and it finds as much. Khaledian et al. 2025, "PCA-RAG: Principal
Component Analysis for Efficient Retrieval-Augmented Generation" (arXiv:2504.08386), on vectors of 512 dimensions in which
relevance is planted.

    1. A document is a point in `rank` of the dimensions, turned into all of them, plus noise in all of them. What is relevant
       to a query are the ten documents at the smallest angle in those.
    2. Choose how many principal directions to keep: within 1/25 of the bytes, those whose search agrees best with the search
       of the whole vectors. Relevance is not looked at. Random directions: the best of `draws` by the same agreement.
    3. On other queries: recall@10 of the whole vectors, of principal and of random directions.
    4. Control: vectors whose relevance lies in all dimensions, of which few directions cannot keep much.
    5. Time a query in rounds, the whole index and the small one in turn, on the wall and of the processors: what counts is the
       median of their ratios, and both must reach the bar.

Letters: n documents, q queries, d width, r directions kept.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from actscope.compression._parts.vectors import Index, directions, recall
from actscope.compression.embeddings import embeddings
from actscope.core.files import sha256
from actscope.core.progress import Progress, quiet
from actscope.core.reproduction import Reproduction
from actscope.reproductions._parts.seeds import beyond, gathered, means

__all__ = ["pca_rag"]

CLAIM = (
    "An index of principal directions that is 25 times smaller keeps at least 95% of the recall@10 of the whole vectors, more "
    "than random directions do, and a query takes at most a fifth of the time."
)
KEPT, SMALLER, FASTER = 0.95, 25.0, 5.0
NOISE, TOP = 0.05, 10
RANKS = (5, 10, 15, 20)  # all that 1/25 of 512 single-precision numbers has room for, in steps of five


def pca_rag(
    *,
    seeds: Sequence[int] = (0, 1, 2),
    documents: int = 50_000,
    queries: int = 200,
    width: int = 512,
    rank: int = 20,
    draws: int = 10,
    rounds: int = 15,
    full: bool = False,
    progress: Progress = quiet,
) -> Reproduction:
    """Retrieval from principal directions of embeddings (Khaledian et al. 2025, arXiv:2504.08386).

    seeds: of the vectors and of random directions. documents, width: of the index. queries: to choose with, and as many others
    to judge with. rank: dimensions that relevance lies in. draws: random projections to choose from. rounds: of timing. full:
    five seeds. holds: in every seed the small index reaches its three bars, and over seeds (95%, Student's t) it keeps more of
    the recall than random directions.
    """
    began = time.monotonic()
    seeds = tuple(range(5)) if full else tuple(seeds)
    found: list[dict[str, float]] = []
    for number, seed in enumerate(seeds):
        progress(number, len(seeds), f"seed {seed}")
        vectors = _planted(seed, documents, 2 * queries, width, rank)
        spread = _planted(seed, documents, 2 * queries, width, width)
        (figures, small), (control, _) = (_measured(each, seed, draws) for each in (vectors, spread))
        control = {f"{name} without planted dimensions": value for name, value in control.items()}
        found.append({**figures, **control, **_timed(vectors, small, rounds)})
    progress(len(seeds), len(seeds), "seeds")
    figures = gathered(found)
    mean = means(figures)
    kept, chance = figures["kept by principal directions"], figures["kept by random directions"]
    faster = min(*figures["times faster"], *figures["times faster in processor time"])
    bars = min(kept) >= KEPT and min(figures["times smaller"]) >= SMALLER and faster >= FASTER
    holds = bars and beyond(kept, chance)
    settings = f"{documents} {queries} {width} {rank} {NOISE} {TOP}"
    return Reproduction(
        "pca-rag", CLAIM, mean["kept by principal directions"], mean["kept by random directions"],
        mean["kept by principal directions without planted dimensions"], f"share of recall@{TOP} kept", seeds, holds,
        time.monotonic() - began, figures, {"vectors": sha256(settings.encode())},
    )  # fmt: skip


@dataclass(frozen=True)
class _Vectors:
    """Documents, queries, and for each query the numbers of the documents that are relevant."""

    documents: Float[Tensor, "n d"]
    queries: Float[Tensor, "q d"]
    relevant: Int[Tensor, "q top"]


def _planted(seed: int, documents: int, queries: int, width: int, rank: int) -> _Vectors:
    """Step 1."""
    draw = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(width, rank, generator=draw))[0].T
    inner = [torch.randn(count, rank, generator=draw) for count in (documents, queries)]
    outer = [x @ basis + NOISE * torch.randn(len(x), width, generator=draw) for x in inner]
    points, asked = (functional.normalize(x, dim=1) for x in inner)
    return _Vectors(outer[0], outer[1], (asked @ points.T).topk(TOP, dim=1).indices)


def _measured(vectors: _Vectors, seed: int, draws: int) -> tuple[dict[str, float], Index]:
    """Steps 2 and 3, and the index of principal directions."""
    half = len(vectors.queries) // 2
    choose, judge = vectors.queries[:half], vectors.queries[half:]
    width = choose.shape[1]
    shares, budget = [rank / width for rank in RANKS], 4 * width / SMALLER
    small = embeddings(vectors.documents, choose, shares=shares, formats=("float32",), budget=budget, top=TOP, seed=seed).index
    whole = Index(vectors.documents, None, "float32")
    exact = whole.search(choose, TOP)

    def agreement(index: Index) -> float:
        return float(recall(index.search(choose, TOP), exact).mean())

    tried = (directions(vectors.documents[:1], "random", 1000 * seed + number)[: small.width] for number in range(draws))
    random = max((Index(vectors.documents, rows, "float32") for rows in tried), key=agreement)
    recalls = {
        name: float(recall(index.search(judge, TOP), vectors.relevant[half:]).mean())
        for name, index in (("the whole vectors", whole), ("principal directions", small), ("random directions", random))
    }
    kept = {f"kept by {name}": value / recalls["the whole vectors"] for name, value in list(recalls.items())[1:]}
    bytes_of_all, bytes_left = (len(vectors.documents) * one.bytes + one.shared for one in (whole, small))
    found = {"directions": float(small.width), "times smaller": bytes_of_all / bytes_left, **kept}
    return {**found, **{f"recall of {name}": value for name, value in recalls.items()}}, small


def _timed(vectors: _Vectors, small: Index, rounds: int) -> dict[str, float]:
    """Step 5: one query at a time, and 32 at once. Milliseconds of the whole index beside the ratios."""
    pair = (Index(vectors.documents, None, "float32"), small)
    found = {}
    for name, size in (("", 1), (", 32 queries at once", 32)):
        asked = vectors.queries[: 8 * size].split(size)
        took = [_round(pair if number % 2 else pair[::-1], asked) for number in range(rounds + 1)]
        took = [each if number % 2 else each[::-1] for number, each in enumerate(took)][1:]
        for clock, kind in enumerate(("", " in processor time")):
            found[f"times faster{kind}{name}"] = statistics.median(slow[clock] / fast[clock] for slow, fast in took)
        found[f"milliseconds of the whole index{name}"] = statistics.median(1000 * slow[0] / len(asked) for slow, _ in took)
    return found


def _round(pair: Sequence[Index], asked: Sequence[Tensor]) -> list[tuple[float, float]]:
    """Seconds that each index takes for all batches of queries: on the wall, and of the processors, whatever else runs."""
    took = []
    for index in pair:
        wall, processor = time.perf_counter(), time.process_time()
        for queries in asked:
            index.search(queries, TOP)
        took.append((time.perf_counter() - wall, time.process_time() - processor))
    return took
