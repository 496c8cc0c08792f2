"""The one seam to models: anything that runs inputs and lets its sites be read and written.

Letters: b batch, t tokens, d width of a site.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from torch import Tensor

from actscope.core.inputs import Inputs, Run
from actscope.core.site import Site, SiteInfo

if TYPE_CHECKING:
    from actscope.core.change import Change
    from actscope.core.intervention import Intervention


@runtime_checkable
class Cache(Protocol):
    """The keys and values of tokens already run. Opaque but for these."""

    length: int

    def crop(self, n: int) -> "Cache":
        """Keep the first n tokens."""
        ...

    def select(self, rows: Tensor) -> "Cache":
        """The cache whose row i is this one's row rows[i]; rows may repeat. A copy: the original stays usable."""
        ...


@runtime_checkable
class Subject(Protocol):
    """A model wrapped. Its own modules are never altered: no hook or patch outlives a call."""

    @property
    def name(self) -> str:
        """What to call it in messages."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of weights and tokenizer, stamped on every artifact."""
        ...

    @property
    def sites(self) -> Mapping[Site, SiteInfo]:
        """Whole sites; a head is `Site(..., part=i)` of one of these."""
        ...

    @property
    def missing(self) -> Mapping[str, str]:
        """Kinds of the table that this subject lacks, in some layers or in all -> why."""
        ...

    @property
    def order(self) -> Sequence[Site]:
        """The sites in the order the model computes them."""
        ...

    @property
    def context(self) -> int:
        """The longest sequence it takes, in tokens."""
        ...

    @property
    def causal(self) -> bool:
        """Whether a token sees only itself and those before it. The encoder of a model with two stacks sees all in any case."""
        ...

    def prepare(self, raw: Sequence[str]) -> Inputs:
        """Tokenize texts: one row each, padded on the right, with offsets; special tokens the model was trained with."""
        ...

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """The text of each token, such that joining them gives the text back wherever the bytes are valid."""
        ...

    def run(
        self,
        inputs: Inputs | Tensor,
        *,
        read: Iterable[str | Site] = (),
        write: Iterable["Intervention"] = (),
        grad: bool = False,
        cache: Cache | bool | None = None,
    ) -> Run:
        """Run a batch. With `read=()` to the end, logits set; else it stops after the last site read or written.

        Logits are computed only when `read` is empty or holds the site "logits". cache=True asks for a cache in the
        Run; a Cache continues after its tokens. Raises UnknownSite, NotFinite never (see `scores`).
        """
        ...

    def weights(self) -> Mapping[str, Tensor]: ...

    def changed(self, change: "Change") -> "Subject":
        """This subject with a change made: shares every untouched parameter, has its own fingerprint."""
        ...
