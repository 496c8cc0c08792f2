"""Embeddings in eight-bit floats lose less than in uncalibrated eight-bit integers. Huerga-Perez et al. 2025, "Optimization of
embeddings storage for RAG systems using quantization and dimensionality reduction techniques" (arXiv:2505.00105), on
embeddings taken from pocket.

    1. Cut functions of the standard library into two passages of the same length. The first half is a query; what is
       relevant to it is the second half of the same function, and no other.
    2. An embedding is the mean over a passage of what stands after a layer, as it is or with the mean over all passages taken
       off. Which layer, and which of the two: on functions kept for choosing, the highest nDCG@10 in single precision.
    3. On other functions: the share of nDCG@10 that is lost when the index is held in float8 (e4m3) or in int8 (256 steps from
       -1 to 1, uncalibrated), at a quarter of the bytes; and by half of the principal directions in float8, at an eighth.
    4. Beside them: int8 over each coordinate's own range (calibrated); its codes compared as they are, offsets, scales and all,
       as libraries do; half of as many random directions; principal directions in int8. Control: float16.
    5. What decides: the error of a format, as a share of the vectors' length. That of float8 is the same at every width; that
       of 256 steps from -1 to 1 grows as the root of the width, for a vector of length 1 has the smaller coordinates the more
       it has. So steps 3 and 4 again on wider embeddings (all layers side by side; the neurons of all layers), and with the
       mean left in, which makes coordinates large that tell nothing apart. Beside nDCG, agreement: the share of what the search
       in single precision finds.

Letters: n passages (q other ones), d width, t tokens.
"""

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from actscope.compression._parts.vectors import Index, directions, ndcg, recall
from actscope.core.inputs import Inputs
from actscope.core.progress import Progress, quiet
from actscope.core.reproduction import Reproduction
from actscope.core.site import Site
from actscope.core.subject import Subject
from actscope.corpora.standard_library import StandardLibrary, standard_library
from actscope.reproductions._parts.seeds import beyond, gathered, means
from actscope.subjects.load import load

__all__ = ["embed_store"]

CLAIM = (
    "Of embeddings' nDCG@10, float8 (a quarter of the bytes) loses less than uncalibrated int8 (a quarter), and so does half "
    "of the principal directions in float8 (an eighth)."
)
TOP = 10
_FORMATS = {"float8": "float8", "int8 uncalibrated": "int8_raw", "int8 calibrated": "int8"}
_AGAIN = (
    *("width", "nDCG in single precision", "lost by half float8", "lost by int8 codes as they are"),
    *(f"{what} {name}" for what in ("lost by", "error of", "agreement of") for name in _FORMATS),
)  # what step 5 measures again
_ROWS = 128  # passages at a time


def embed_store(
    *,
    seeds: Sequence[int] = (0, 1, 2),
    documents: int = 2_000,
    choosing: int = 300,
    tokens: int = 48,
    full: bool = False,
    progress: Progress = quiet,
) -> Reproduction:
    """Formats and directions to store embeddings in, by the retrieval they lose (Huerga-Perez et al. 2025, arXiv:2505.00105).

    seeds: each has functions of its own, of which there are as many as the library gives, at most `documents` to judge on and
    `choosing` to choose the layer on; and its own random directions. tokens: of each half. full: five seeds. holds: over seeds
    (95%, Student's t), and in every one, uncalibrated int8 loses more than float8, and than half of the principal directions in
    float8.
    """
    began = time.monotonic()
    seeds = tuple(range(5)) if full else tuple(seeds)
    subject, library = load("pocket"), standard_library(split="all")
    passages = _passages(subject, library, tokens, len(seeds) * (documents + choosing))
    found: list[dict[str, float]] = []
    for number, seed in enumerate(seeds):
        progress(number, len(seeds), f"seed {seed}")
        own = passages[number :: len(seeds)]
        found.append(_judged(subject, own[:choosing], own[choosing:], seed))
    progress(len(seeds), len(seeds), "seeds")
    figures = gathered(found)
    mean = means(figures)
    holds = all(
        beyond(figures["lost by int8 uncalibrated"], figures[name]) for name in ("lost by float8", "lost by half float8")
    )
    return Reproduction(
        "embed-store", CLAIM, mean["lost by float8"], mean["lost by int8 uncalibrated"], mean["lost by float16"],
        f"share of nDCG@{TOP} lost", seeds, holds, time.monotonic() - began, figures,
        {"subject": subject.fingerprint, "corpus": library.fingerprint},
    )  # fmt: skip


def _passages(subject: Subject, library: StandardLibrary, tokens: int, most: int) -> Int[Tensor, "n 2 t"]:
    """Step 1: the first tokens of both halves, each behind the token that begins a text."""
    found: list[Tensor] = []
    texts = [document.text[: 16 * tokens] for document in library.documents() if len(document.text) > 3 * tokens]
    for start in range(0, len(texts), _ROWS):
        inputs = subject.prepare(texts[start : start + _ROWS])
        assert inputs.ids is not None and inputs.mask is not None
        long = inputs.ids[inputs.mask.sum(1) > 2 * tokens][:, : 2 * tokens + 1]
        first = long[:, :1]
        found += torch.stack([torch.cat([first, half], 1) for half in long[:, 1:].split(tokens, 1)], 1).unbind()
        if len(found) >= most:
            break
    return torch.stack(found[:most])


@torch.no_grad()
def _pooled(subject: Subject, passages: Int[Tensor, "n 2 t"]) -> dict[str, Tensor]:
    """[n 2 d] each: the mean over every passage of what stands after a layer ("0", "1"...), and of several side by side."""
    sites = [site for site in subject.order if site.kind in ("resid_post", "mlp_post")]
    parts: dict[Site, list[Tensor]] = {site: [] for site in sites}
    for ids in passages.flatten(0, 1).split(_ROWS):
        acts = subject.run(Inputs(ids=ids), read=sites).acts
        for site in sites:
            parts[site].append(acts[site][:, 1:].mean(1))
    found = {site: torch.cat(each).unflatten(0, (-1, 2)) for site, each in parts.items()}
    wide = {
        name: torch.cat([x for site, x in found.items() if site.kind == kind], 2)
        for name, kind in (("all layers", "resid_post"), ("neurons", "mlp_post"))
    }
    return {**{str(site.layer): x for site, x in found.items() if site.kind == "resid_post"}, **wide}


class _Embedding(NamedTuple):
    """A way to embed: what is taken, and what is taken off it."""

    place: str
    centred: bool
    mean: Float[Tensor, " d"]

    def __call__(self, pooled: Mapping[str, Tensor]) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
        """(queries, index)"""
        x = pooled[self.place] - self.mean if self.centred else pooled[self.place]
        return x[:, 0], x[:, 1]


def _judged(subject: Subject, choosing: Int[Tensor, "n 2 t"], judging: Int[Tensor, "q 2 t"], seed: int) -> dict[str, float]:
    """Steps 2 to 5."""
    pooled = _pooled(subject, choosing)
    ways = [_Embedding(name, centred, x.mean((0, 1))) for name, x in pooled.items() for centred in (False, True)]
    chosen = max((way for way in ways if way.place.isdigit()), key=lambda way: _gain(*way(pooled), None, "float32"))
    pooled = _pooled(subject, judging)
    found = {"functions": float(len(judging)), "layer": float(chosen.place), "mean taken off": float(chosen.centred)}
    found |= _lost(*chosen(pooled), seed)
    others = {(way.place, way.centred): way for way in ways}
    for name, way in (
        ("with the mean left in", others[chosen.place, False]),
        ("of all layers", others["all layers", True]),
        ("of neurons", others["neurons", True]),
    ):
        found |= {f"{what} {name}": value for what, value in _lost(*way(pooled), seed).items() if what in _AGAIN}
    return found


def _gain(queries: Float[Tensor, "n d"], index: Float[Tensor, "n d"], rows: Float[Tensor, "r d"] | None, format: str) -> float:
    """nDCG of the query with each number, to which the passage with that number is relevant."""
    found = Index(index, rows, format).search(queries, TOP)
    return float(ndcg(found, torch.arange(len(queries))[:, None]).mean())


def _lost(queries: Float[Tensor, "n d"], index: Float[Tensor, "n d"], seed: int) -> dict[str, float]:
    """Steps 3 and 4."""
    principal, random = directions(index, "pca"), directions(index[:1], "random", seed)
    half = index.shape[1] // 2
    whole = _gain(queries, index, None, "float32")
    ways: dict[str, tuple[Tensor | None, str]] = {"float16": (None, "float16")}
    ways |= {name: (None, format) for name, format in _FORMATS.items()}
    ways |= {f"half {name}": (principal[:half], format) for name, format in {"float32": "float32", **_FORMATS}.items()}
    ways["half of random directions float8"] = (random[:half], "float8")
    lost = {f"lost by {name}": 1 - _gain(queries, index, rows, format) / whole for name, (rows, format) in ways.items()}
    return {
        "width": float(index.shape[1]),
        "nDCG in single precision": whole,
        **lost,
        "lost by int8 codes as they are": 1 - _codes(queries, index) / whole,
        **{f"error of {name}": _error(index, format) for name, format in _FORMATS.items()},
        **{f"agreement of {name}": _agreement(queries, index, format) for name, format in _FORMATS.items()},
    }


def _agreement(queries: Float[Tensor, "n d"], index: Float[Tensor, "n d"], format: str) -> float:
    """The share of what the search in single precision finds that is found."""
    exact, found = (Index(index, None, one).search(queries, TOP) for one in ("float32", format))
    return float(recall(found, exact).mean())


def _error(index: Float[Tensor, "n d"], format: str) -> float:
    """Root mean square, as a share of the vectors' length, which is 1."""
    held = Index(index, None, format)
    missed = held.format.unpack(held.packed) - functional.normalize(index, dim=1)
    return float(missed.square().sum(1).mean().sqrt())


def _codes(queries: Float[Tensor, "n d"], index: Float[Tensor, "n d"]) -> float:
    """nDCG where queries too are put into the index's calibrated steps, and the codes from -128 to 127 are compared."""
    held = Index(index, None, "int8")
    asked, stored = (held.format.pack(functional.normalize(x, dim=1)).float() - 128 for x in (queries, index))
    return _gain(asked, stored, None, "float32")
