"""Rows that are immense among the others: attention sinks (Xiao et al. 2023, arXiv:2309.17453) and the like, which hold most of
a site's variance in a few tokens (massive activations, Sun et al. 2024, arXiv:2402.17762).

1. The first unit of a capture gives the middle row's length at every site. Which unit that is depends on the settings alone, so
   every process, and every restart, finds the same limit.
2. A row is immense that is over IMMENSE times as long at one of the sites. It has no number among the store's rows and stands
   apart in the same shard, as the subject gives it, with the limits it was over. Nothing is lost, and nothing reads it by
   accident: what is fitted or scored on the store never meets it.
A shard without such rows has the bytes it always had. IMMENSE is 20: the rows where pocket is most sure of the next token are
up to 18.5 times as long as the middle one at its last layer (150,000 rows of the grammar), in a tail without a gap.
Letters: n rows, d width.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from actscope.core.errors import BadInput

IMMENSE = 20.0


@dataclass(frozen=True)
class Alarm:
    """What was found at one site. rows: over `limit` in length there, of `of`. variance: their share of the squared distance of
    all rows from the ordinary rows' mean. position: where most of them stand in their documents, and the share that does."""

    port: str
    rows: int
    of: int
    variance: float
    limit: float
    position: int
    share: float

    def __str__(self) -> str:
        return (
            f"{self.port}: {self.rows:,} of {self.of:,} rows ({self.rows / self.of:.2%}) are over {IMMENSE:g} times as long as "
            f"the middle one and hold {self.variance:.1%} of the variance; {self.share:.0%} of them stand at position "
            f"{self.position} of their document. They are set apart: store.apart(ports) reads them; capture with sinks=True "
            "(--sinks) keeps them among the others."
        )


def limits(rows: Mapping[str, Tensor]) -> dict[str, float]:
    """Port -> the length from which a row is immense, from the rows of the first unit; a port with no row there has none.
    Raises BadInput for a site that is zero everywhere."""
    found = {}
    for name, x in rows.items():
        if not name.startswith("acts.") or not len(x):
            continue
        port = name.removeprefix("acts.")
        length = _length(x)
        if not float(length.max()):
            raise BadInput(
                f"{port} is zero at all {len(x):,} tokens of the first unit: it never fires, and there is nothing "
                "to learn from it. Leave it out, or look at the model: a head or an expert may be switched off."
            )
        found[port] = float(f"{IMMENSE * float(length[length > 0].median()):.3g}")
    return found


def parted(
    rows: dict[str, Tensor], words: dict[str, Tensor], over: Mapping[str, float]
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """(rows, words, apart): the ordinary ones, and the tensors that stand for the immense: "apart.<name>" of each, and
    "apart.limit.<port>"; none where there is none."""
    far = torch.zeros(len(words["where"]), dtype=torch.bool)
    for port, limit in over.items():
        far |= _length(rows[f"acts.{port}"]) > limit
    if not bool(far.any()):
        return rows, words, {}
    apart = {f"apart.{name}": x[far] for name, x in {**rows, **words}.items()}
    apart |= {f"apart.limit.{port}": torch.tensor([limit], dtype=torch.double) for port, limit in over.items()}
    return {name: x[~far] for name, x in rows.items()}, {name: x[~far] for name, x in words.items()}, apart


def alarm(
    port: str, apart: Float[Tensor, "n d"], where: Int[Tensor, "n 2"], limit: float, ordinary: Float[Tensor, "m d"], rows: int
) -> Alarm | None:
    """Of one site. apart: all rows set apart. ordinary: a sample of the others, of which there are `rows`."""
    over: Bool[Tensor, " n"] = _length(apart) > limit
    if not bool(over.any()):
        return None
    mean = ordinary.double().mean(0)
    far, near = (float((x.double() - mean).square().sum()) for x in (apart[over], apart[~over]))
    near += rows * float((ordinary.double() - mean).square().sum(1).mean())
    positions, counts = where[over, 1].unique(return_counts=True)
    most = int(counts.argmax())
    return Alarm(
        port=port,
        rows=int(over.sum()),
        of=rows + len(apart),
        variance=far / (far + near),
        limit=limit,
        position=int(positions[most]),
        share=float(counts[most] / over.sum()),
    )


def _length(x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    return torch.linalg.vector_norm(x, dim=1, dtype=torch.float32)
