"""How well special tokens are rebuilt, apart from text. Li et al. 2025, "Training Superior Sparse Autoencoders for Instruct
Models" (arXiv:2506.07691).

A chat model reads its turns by a handful of special tokens (<|user|>, <|assistant|>...). They are few, so a mean over all
tokens says little of them, and steering at them is what the paper finds to work best.
"""

from collections.abc import Iterable

import torch

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput
from actscope.core.inputs import SPECIAL
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.scores._parts.census import port_means, row_batches
from actscope.scores._parts.totals import document_sums, totals_interval

__all__ = ["special_tokens"]


@torch.no_grad()
def special_tokens(dictionary: Dictionary, store: Store, *, documents: Iterable[int] | None = None, seed: int = 0) -> Score:
    """The squared error of a special token's row, over the mean squared distance of all rows from their mean (Li et al. 2025,
    arXiv:2506.07691). In the same unit as the part "text", the error of all other rows.

    Control: the mean of all rows in place of the reconstruction. Interval: bootstrap over documents. documents: only these.
    parts: text; special and text as plain mean squared errors a coordinate ("mse:special", "mse:text"); the share of the
    rows' own variance missed ("fvu:special", "fvu:text"), where they have any; rows ("rows:special", "rows:text").
    Raises BadInput for a store without rows of special tokens, or with no others; UnknownSite.
    """
    ports = list(dictionary.writes)
    documents = None if documents is None else list(documents)
    means = port_means(store, ports, documents)
    errors, far, special, where, rows = [], [], [], [], []
    for batch in row_batches(store, [*dictionary.reads, *ports], documents):
        if batch.roles is None:
            raise BadInput("This store has no rows of special tokens; capture again with special=True (--special).")
        rebuilt = dictionary.decode(dictionary.encode({port: batch.acts[port] for port in dictionary.reads}), batch.acts)
        errors.append(sum((batch.acts[port].double() - rebuilt[port].double()).square().sum(1) for port in ports))
        far.append(sum((batch.acts[port].double() - means[port]).square().sum(1) for port in ports))
        rows.append(torch.cat([batch.acts[port].double() for port in ports], dim=1))
        special.append(batch.roles == SPECIAL)
        where.append(batch.where[:, 0])
    error, spread, is_special, every = torch.cat(errors), torch.cat(far), torch.cat(special), torch.cat(rows)  # type: ignore[arg-type]
    if not bool(is_special.any()) or bool(is_special.all()):
        raise BadInput(
            f"{int(is_special.sum())} of {len(error)} rows are special tokens; expected some of them, and some text."
        )
    one = is_special.double()
    sums = document_sums(torch.stack([error * one, one, spread, torch.ones_like(one), spread * one], dim=1), torch.cat(where))
    kinds = {"special": is_special, "text": ~is_special}
    parts = {"text": float(error[~is_special].mean() / spread.mean())}
    for kind, mask in kinds.items():
        own = every[mask] - every[mask].mean(0)
        parts |= {f"mse:{kind}": float(error[mask].mean()) / every.shape[1], f"rows:{kind}": float(mask.sum())}
        if float(own.square().sum()) > 0:
            parts[f"fvu:{kind}"] = float(error[mask].sum() / own.square().sum())
    total = sums.sum(0)
    return Score(
        name="special_tokens",
        definition="special_tokens@1",
        value=float((total[0] / total[1]) / (total[2] / total[3])),
        unit="mean squared distance of a row",
        better="lower",
        n=int(is_special.sum()),
        interval=totals_interval(sums, lambda t: (t[:, 0] / t[:, 1]) / (t[:, 2] / t[:, 3]), seed=seed),
        control=float((total[4] / total[1]) / (total[2] / total[3])),
        parts=parts,
    )
