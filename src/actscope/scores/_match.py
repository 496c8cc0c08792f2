"""The verb `match`: which latent of one dictionary is which of another, over seeds, checkpoints, widths, sites and models."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from actscope.core.codes import Codes
from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput
from actscope.core.store import Store
from actscope.scores._parts.asked import atoms_of
from actscope.scores._parts.assignment import assignment
from actscope.scores._parts.census import row_batches

__all__ = ["Matches", "match"]

_ROWS = 2048


@dataclass(frozen=True)
class Matches:
    """For each latent of the first dictionary, its partner in the second; one to one."""

    partner: Int[Tensor, " m"]  # -1: none
    similarity: Float[Tensor, " m"]  # with the partner; NaN: none
    nearest: Float[Tensor, " m"]  # with the most similar latent, which may be another's partner
    control: Float[Tensor, " m"]  # with the partner in the control


def match(
    first: Dictionary,
    second: Dictionary,
    store: Store | None = None,
    other_store: Store | None = None,
    *,
    by: Literal["atoms", "codes"] = "atoms",
    seed: int = 0,
) -> Matches:
    """The one-to-one match of two dictionaries' latents with the largest sum of similarities (Paulo and Belrose 2025,
    arXiv:2501.16615).

    by="atoms": the cosine of what they add, for two dictionaries that write vectors of one width: other seeds, numbers of
    latents, checkpoints of one model, a model before and after tuning. by="codes": the correlation of their values on the same
    rows, for any two: other sites, other models. store: rows both read, or the first where `other_store` holds the same tokens
    read elsewhere. With a store, latents that never fire on it have no partner: those never trained still stand where they
    began, and would match other dictionaries begun there.

    Control: by atoms, as many random directions with the covariance of the second's; by codes, the second's rows shuffled.
    Raises BadInput for atoms of different widths, codes without a store, or stores of different tokens.
    """
    if by == "codes" and store is None:
        raise BadInput("Latents are matched by their codes on the rows of a store, and none was given; give store=.")
    generator = torch.Generator().manual_seed(seed)
    other = store if other_store is None else other_store
    live = None if store is None else _live(first, store), None if other is None else _live(second, other)
    if by == "atoms":
        mine, yours = (functional.normalize(atoms_of(one), dim=1) for one in (first, second))
        if mine.shape[1] != yours.shape[1]:
            raise BadInput(
                f"Atoms of widths {mine.shape[1]} and {yours.shape[1]} have no cosine; match by='codes', on a store of "
                "the same tokens."
            )
        similarity, chance = mine @ yours.T, mine @ _alike(yours, generator).T
    else:
        assert store is not None and other is not None
        similarity = _correlation(first, second, store, other, None)
        chance = _correlation(first, second, store, other, generator)
    return _matched(similarity, chance, *live)


def _matched(
    similarity: Float[Tensor, "m o"],
    chance: Float[Tensor, "m o"],
    live: Bool[Tensor, " m"] | None,
    other_live: Bool[Tensor, " o"] | None,
) -> Matches:
    m, o = similarity.shape
    rows = torch.arange(m) if live is None else live.nonzero()[:, 0]
    columns = torch.arange(o) if other_live is None else other_live.nonzero()[:, 0]
    partner, none = torch.full((m,), -1), torch.full((m,), torch.nan)
    value, nearest, control = none.clone(), none.clone(), none.clone()
    if len(rows) and len(columns):
        here = similarity[rows][:, columns]
        own, other = _pairs(here)
        partner[rows[own]], value[rows[own]] = columns[other], here[own, other]
        nearest[rows] = here.max(1).values
        apart = chance[rows][:, columns]
        own, other = _pairs(apart)
        control[rows[own]] = apart[own, other]
    return Matches(partner, value, nearest, control)


def _pairs(value: Float[Tensor, "r c"]) -> tuple[Int[Tensor, " p"], Int[Tensor, " p"]]:
    """(row, column) of every pair; the fewer of the two all have one."""
    if value.shape[0] <= value.shape[1]:
        return torch.arange(len(value)), assignment(value)
    return assignment(value.T), torch.arange(value.shape[1])


def _alike(atoms: Float[Tensor, "o d"], generator: torch.Generator) -> Float[Tensor, "o d"]:
    """Random unit vectors with the second moments of these."""
    size, axis = torch.linalg.eigh(atoms.T @ atoms / len(atoms))
    drawn = torch.randn(atoms.shape, generator=generator) * size.clamp(min=0).sqrt()
    return functional.normalize(drawn @ axis.T, dim=1)


def _live(dictionary: Dictionary, store: Store) -> Bool[Tensor, " m"]:
    """Which latents are active on some row."""
    live = torch.zeros(dictionary.n_latents, dtype=torch.bool)
    for codes, _ in _codes(dictionary, store):
        live[codes.index[codes.value != 0]] = True
    return live


def _codes(dictionary: Dictionary, store: Store) -> Iterator[tuple[Codes, Int[Tensor, "n 2"]]]:
    for batch in row_batches(store, dictionary.reads, size=_ROWS):
        with torch.no_grad():
            codes = dictionary.encode(batch.acts)
        yield codes, batch.where


def _correlation(
    first: Dictionary, second: Dictionary, store: Store, other: Store, shuffle: torch.Generator | None
) -> Float[Tensor, "m o"]:
    """The correlation of every two latents over rows, of which the second's are shuffled where a generator is given; 0 for a
    latent that is always the same."""
    if len(store) != len(other) or not torch.equal(store.text[1], other.text[1]):
        raise BadInput(
            f"The stores hold {len(store)} and {len(other)} rows of different tokens; codes are compared on the same tokens. "
            "Capture both from one corpus with the same number of tokens."
        )
    product = torch.zeros(first.n_latents, second.n_latents, dtype=torch.float64)
    sums = [torch.zeros(2, one.n_latents, dtype=torch.float64) for one in (first, second)]
    for (mine, _), (yours, _) in zip(_codes(first, store), _codes(second, other), strict=True):
        dense = yours.dense().double()
        if shuffle is not None:
            dense = dense[torch.randperm(len(dense), generator=shuffle)]
        index = torch.stack([mine.index, mine.row])
        sparse = torch.sparse_coo_tensor(index, mine.value.double(), (mine.width, len(mine)), check_invariants=False)
        product += torch.sparse.mm(sparse, dense)
        for total, values in zip(sums, (mine.dense().double(), dense), strict=True):
            total += torch.stack([values.sum(0), values.square().sum(0)])
    n = len(store)
    (mean, square), (other_mean, other_square) = (total / n for total in sums)
    spread = (square - mean.square()).clamp(min=0).sqrt()
    other_spread = (other_square - other_mean.square()).clamp(min=0).sqrt()
    scale = spread[:, None] * other_spread[None]
    apart = product / n - mean[:, None] * other_mean[None]
    return torch.where(scale > 0, apart / scale.clamp(min=1e-300), 0.0).float()
