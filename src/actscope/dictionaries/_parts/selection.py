"""What every selection rule offers, and finding one by name: `activation="topk"` is the file `select_topk.py`.

Letters: n rows, d width, m latents.
"""

import abc
import importlib
import importlib.util

from jaxtyping import Float
from torch import Tensor, nn

from actscope.core.codes import Codes
from actscope.core.errors import BadInput, UnknownMethod


class Selection(nn.Module, abc.ABC):
    """Which latents of a row are active, and how strongly, given the encoder's parameters."""

    @abc.abstractmethod
    def forward(
        self, x: Float[Tensor, "n d"], weight: Float[Tensor, "m d"], bias: Float[Tensor, " m"], centre: Float[Tensor, " d"]
    ) -> Codes:
        """The codes of (x - centre) @ weight.T + bias, differentiable; entries may be 0 and stand in any order."""

    def settled(self, codes: Codes) -> Codes:
        """The same codes as an encoder hands them out: zeros left out, latents ascending in a row."""
        order = (codes.row * codes.width + codes.index).argsort()
        kept = order[codes.value[order] != 0]
        counts = codes.row[kept].bincount(minlength=len(codes))
        ends = counts.new_zeros(len(codes) + 1)
        ends[1:] = counts.cumsum(0)
        return Codes(ends, codes.index[kept], codes.value[kept], codes.width)


def make(activation: str, n_latents: int, **settings: object) -> Selection:
    """The selection rule of that name. Raises UnknownMethod, BadInput for settings it does not take."""
    name = f"actscope.dictionaries._parts.select_{activation}"
    if not activation.isidentifier() or importlib.util.find_spec(name) is None:
        raise UnknownMethod(f'There is no activation {activation!r}; expected "topk", or another file select_<name>.py.')
    try:
        return importlib.import_module(name).Select(n_latents, **settings)
    except TypeError as error:
        raise BadInput(f"activation={activation!r} does not take {settings} ({error}).") from error
