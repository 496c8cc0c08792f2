"""Passes over the rows of one port, for methods that look at the data many times.

Letters: n rows, d width.
"""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from actscope.core.batch import Batch
from actscope.core.errors import Interrupted, NotFinite
from actscope.core.progress import stop_requested
from actscope.core.site import Port

HELD = 2**28  # bytes of rows that are kept between passes
TILE = 4096  # rows a batch from then on

Rows = Callable[[], Iterator[Tensor]]


def over(batches: Callable[[], Iterator[Batch]], port: Port) -> Rows:
    """A function that starts a pass: the port's rows batch by batch, in single precision at least. Where all of them fit
    HELD bytes the store is read once. Raises NotFinite for NaN or infinity, Interrupted when asked to stop."""
    held: list[Tensor] = []
    complete = False

    def rows() -> Iterator[Tensor]:
        nonlocal complete
        if complete:
            for x in held:
                heed()
                yield x
            return
        held.clear()
        size = 0
        for batch in batches():
            heed()
            x = batch.acts[port]
            x = x.to(torch.promote_types(x.dtype, torch.float32), copy=True)
            if not torch.isfinite(x).all():
                raise NotFinite("The rows hold NaN or infinity; capture them again from a model whose weights are finite.")
            size += x.numel() * x.element_size()
            if size <= HELD:
                held.append(x)
            else:
                held.clear()
            yield x
        complete = size <= HELD
        if complete and held:
            held[:] = torch.cat(held).split(TILE)

    return rows


def heed() -> None:
    """Raises Interrupted when asked to stop."""
    if stop_requested():
        raise Interrupted("Stopped before a solution was found; of that nothing is kept: the same command begins it again.")


def sample(rows: Rows, size: int, draw: torch.Generator) -> tuple[Float[Tensor, "s d"], Float[Tensor, " d"]]:
    """(`size` of the rows, or all, drawn without replacement; the mean of all), in one pass."""
    kept, keys, total, n = torch.empty(0), torch.empty(0), torch.zeros((), dtype=torch.float64), 0
    for x in rows():
        total = total.to(x.device) + x.double().sum(0)
        n += len(x)
        fresh = torch.rand(len(x), generator=draw, dtype=torch.float64).to(x.device)
        kept, keys = (x, fresh) if len(kept) == 0 else (torch.cat([kept, x]), torch.cat([keys, fresh]))
        if len(keys) > size:
            keys, order = keys.topk(size, largest=False)
            kept = kept[order]
    return kept, (total / max(n, 1)).to(kept.dtype)
