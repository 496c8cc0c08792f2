"""Semi-nonnegative factorization over passes: rows ~ codes @ atoms with codes >= 0 and few coordinates an atom.

Letters: n rows, s rows sampled, d width, m atoms.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from actscope.core.errors import BadInput
from actscope.dictionaries._parts import clusters, nonnegative, passes, start

SAMPLE = 8  # rows an atom from which the start is drawn
SEARCHED = 32  # rows an atom on which the atoms are found; passes over all rows then only refine them
PATIENCE = 3  # passes without progress before the end
ROUGH, SOON = 1e-3, 50  # how exactly, and in how many steps at most, codes are solved while atoms still move
RIDGE = 1e-6  # of the mean square of a code, so that latents that always fire together can be told apart


@dataclass(frozen=True)
class Level:
    """One step of a hierarchy: finer atoms as nonnegative sums of coarser ones."""

    atoms: Float[Tensor, "coarse d"]
    weight: Float[Tensor, "fine coarse"]  # finer atoms ~ weight @ atoms; codes at the coarse level: finer codes @ weight
    parent: Int[Tensor, " fine"]  # the coarse atom of largest weight; -1 where it has none


def factorize(
    rows: passes.Rows, m: int, *, share: float, begin: str, most: int, tol: float, steps: int, seed: int
) -> Float[Tensor, "m d"]:
    """Atoms of length 1. Each pass solves the codes of its rows given the atoms and gathers codes^T rows and codes^T codes;
    then the atoms are solved from these, and all but the largest `share` of each one's coordinates set to 0. When that
    settles, the most redundant atoms start anew from what is explained worst, for as long as that helps. Where there are
    many rows all this is done on a sample of them; passes over all rows follow for as long as they help."""
    draw = torch.Generator().manual_seed(seed)
    some, _ = passes.sample(rows, max(SEARCHED * m, 2 * clusters.TILE), draw)
    few = some[torch.randperm(len(some), generator=draw)[: max(SAMPLE * m, clusters.TILE)]]
    settings = {"share": share, "most": most, "tol": tol, "steps": steps}
    atoms = _descended(lambda: iter(some.split(passes.TILE)), STARTS[begin](few, m, draw), few, **settings)
    if sum(len(x) for x in rows()) == len(some):
        return atoms
    return _descended(rows, atoms, few, begun=True, **settings)


def _descended(
    rows: passes.Rows, atoms: Float[Tensor, "m d"], some: Float[Tensor, "s d"], *,
    share: float, most: int, tol: float, steps: int, begun: bool = False,
) -> Float[Tensor, "m d"]:  # fmt: skip
    """The loop over passes. begun: the atoms are sparse already, near their end, and none starts anew."""
    best, kept, used, waited, moved_at = math.inf, atoms, None, 0, math.inf
    for number in range(most):
        cross, gram, left = _gathered(rows, atoms, steps)
        if number or begun:  # the start still uses all coordinates
            waited = 0 if left < best * (1 - tol) else waited + 1
            if left < best or used is None:
                best, kept, used = left, atoms, gram
            if waited >= (1 if begun else PATIENCE):
                if begun or best >= moved_at * (1 - tol):
                    break
                moved_at, waited = best, 0
                atoms = kept.clone()
                atoms[_redundant(used)] = _unexplained(some, kept, _few(len(atoms)), share, steps)
                continue
        dense = torch.linalg.solve(gram + _ridge(gram), cross).to(atoms.dtype)
        atoms = functional.normalize(winners(dense, share), dim=1)
        idle = gram.diagonal() == 0
        if idle.any():
            atoms[idle] = _unexplained(some, atoms, int(idle.sum()), share, steps)
    return atoms if used is None else kept


def _ridge(gram: Float[Tensor, "m m"]) -> Float[Tensor, "m m"]:
    return RIDGE * gram.diagonal().mean().clamp(min=torch.finfo(gram.dtype).tiny) * torch.eye(len(gram)).to(gram)


def _few(m: int) -> int:
    return max(1, m // 32)


def _redundant(gram: Float[Tensor, "m m"]) -> Int[Tensor, " few"]:
    """The atoms whose codes the other atoms' codes replace at the least loss."""
    return torch.linalg.inv(gram + _ridge(gram)).diagonal().topk(_few(len(gram))).indices


def winners(atoms: Float[Tensor, "m d"], share: float) -> Float[Tensor, "m d"]:
    """Each atom with only the largest `share` of its coordinates by absolute value, at least one."""
    number = max(1, math.ceil(share * atoms.shape[1]))
    largest = atoms.abs().topk(number, dim=1).indices
    return torch.zeros_like(atoms).scatter_(1, largest, atoms.gather(1, largest))


def coarser(atoms: Float[Tensor, "fine d"], m: int, **settings: object) -> Level:
    """The atoms themselves factorized into m coarser ones. settings: as `factorize` takes them."""
    coarse = factorize(lambda: iter([atoms]), m, **settings)  # type: ignore[arg-type]
    weight = nonnegative.codes(atoms, coarse, steps=int(settings["steps"]))  # type: ignore[call-overload]
    most, parent = weight.max(1)
    return Level(coarse, weight, torch.where(most > 0, parent, -1))


def _gathered(
    rows: passes.Rows, atoms: Float[Tensor, "m d"], steps: int
) -> tuple[Float[Tensor, "m d"], Float[Tensor, "m m"], float]:
    """(codes^T rows, codes^T codes, the squares that are left) of one pass, in double precision."""
    m = len(atoms)
    cross = torch.zeros_like(atoms, dtype=torch.float64)
    gram = torch.zeros(m, m, dtype=torch.float64, device=atoms.device)
    left = torch.zeros((), dtype=torch.float64, device=atoms.device)
    codes_of = nonnegative.rough(atoms, steps=min(steps, SOON), tol=ROUGH)
    for x in rows():
        passes.heed()
        y = codes_of(x)
        cross += (y.T @ x).double()
        gram += (y.T @ y).double()
        left += (x - y @ atoms).square().sum().double()
    return cross, gram, float(left)


def _unexplained(
    some: Float[Tensor, "s d"], atoms: Float[Tensor, "m d"], number: int, share: float, steps: int
) -> Float[Tensor, "number d"]:
    """What the atoms leave of the rows they explain worst: a new start for atoms that no row uses."""
    left = some - nonnegative.rough(atoms, steps=min(steps, SOON), tol=ROUGH)(some) @ atoms
    worst = left.square().sum(1).topk(min(number, len(left))).indices
    return functional.normalize(winners(left[worst[torch.arange(number) % len(worst)]], share), dim=1)


def _from_rows(some: Float[Tensor, "s d"], m: int, draw: torch.Generator) -> Float[Tensor, "m d"]:
    """Rows of the sample that point in different directions."""
    unit = functional.normalize(some[some.norm(dim=1) > 0], dim=1)
    if len(unit) == 0:
        raise BadInput("All rows are 0; there is nothing to factorize.")
    return clusters.spread_out(unit, unit[:0], m, draw)


def _at_random(some: Float[Tensor, "s d"], m: int, draw: torch.Generator) -> Float[Tensor, "m d"]:
    return start.unit_rows(m, some.shape[1], draw.initial_seed()).to(some)


STARTS: dict[str, Callable[[Tensor, int, torch.Generator], Tensor]] = {"rows": _from_rows, "random": _at_random}
