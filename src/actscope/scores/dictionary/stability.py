"""Are the latents the same when the dictionary is fitted again? Paulo and Belrose 2025, "Sparse Autoencoders Trained on the
Same Data Learn Different Features" (arXiv:2501.16615).

    1. Latents that fire on the store, of the dictionary and of each other one. Those that never fire still stand where they
       began and would say more of the seed than of the data.
    2. For each other dictionary, the one-to-one match of the largest sum of cosines of atoms.
    3. A latent's stability: its cosine with its partner, mean over the others. It is shared where that is at least 0.7.

Letters: m latents, o others.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.scores._match import match
from actscope.scores._parts.seeds import over_seeds
from actscope.scores._parts.totals import totals_interval

__all__ = ["stability"]


def stability(dictionary: Dictionary, store: Store, *, others: Sequence[Dictionary], bar: float = 0.7, seed: int = 0) -> Score:
    """The mean cosine of a latent's atom with its partner's in other dictionaries (Paulo and Belrose 2025, arXiv:2501.16615).

    others: the same method fitted from other seeds, or whatever it is to be compared with. A latent left without a partner, for
    the other has fewer, counts 0. parts: shared (share of latents whose stability is at least `bar`), nearest (the same without
    one-to-one: mean max cosine), live, and "latent:" of each that fires.
    control: partners among random directions with the covariance of the other's atoms. n: latents that fire. Interval: over the
    others, or over latents drawn again where there is one other. Raises BadInput for no others, or when nothing fires.
    """
    if not others:
        raise BadInput(
            "No other dictionary to compare with; give others=[...], fitted from other seeds (--other on the command line)."
        )
    found = [match(dictionary, other, store, seed=seed) for other in others]
    live = found[0].nearest.isfinite()
    if not bool(live.any()):
        raise BadInput("None of the latents fires on this store; give more rows, or rows like those it was fitted on.")
    each: Float[Tensor, "o m"] = torch.stack([one.similarity[live].nan_to_num(0.0) for one in found])
    figure = each.mean(0).double()
    spread = over_seeds(each.mean(1).tolist())[1]
    if spread is None:
        pair = torch.stack([figure, torch.ones_like(figure)], dim=1)
        spread = totals_interval(pair, lambda total: total[:, 0] / total[:, 1], seed=seed)
    return Score(
        name="stability",
        definition="stability@1",
        value=float(figure.mean()),
        unit="cosine",
        better="higher",
        n=int(live.sum()),
        interval=spread,
        control=float(torch.stack([one.control[live].nan_to_num(0.0) for one in found]).mean()),
        parts={
            "shared": float((figure >= bar).double().mean()),
            "nearest": float(torch.stack([one.nearest[live] for one in found]).mean()),
            "live": float(live.double().mean()),
            **{f"latent:{number}": value for number, value in zip(live.nonzero()[:, 0].tolist(), figure.tolist(), strict=True)},
        },
    )
