"""Lazy neurons. Li et al. 2022, "The Lazy Neuron Phenomenon: On Emergence of Activation Sparsity in Transformers"
(arXiv:2210.06313).

1. Run the text; at every layer take what the MLP's nonlinearity gives, for each token of text and each neuron.
2. The share of entries that are not zero. That is the paper's figure, for ReLU.
3. GELU and SiLU give zero nowhere. All three are open where what enters them is positive, and for ReLU the output is not zero
   exactly there; so the share of entries whose input is positive is what is given, for all of them alike.
4. Beside it, a share that does not look at signs: the fewest neurons of a token that hold 99% of the sum of squares of what
   the next product sees.

Letters: n tokens, f neurons.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from actscope.core.score import Score
from actscope.core.subject import Subject
from actscope.scores._parts.bootstrap import by_document
from actscope.scores._parts.cost import Cost
from actscope.scores._parts.passages import Passages, layers, mean_interval, read

__all__ = ["activation_sparsity"]

COST = Cost("one pass", forward=1)


def activation_sparsity(subject: Subject, passages: Passages, *, mass: float = 0.99, seed: int = 0) -> list[Score]:
    """The share of a token's neurons that are open, which for ReLU is the share that is not zero: over all layers, then a Score
    a layer (Li et al. 2022, arXiv:2210.06313).

    mass: of the squares, for the part "effective". Control: 0.5, what a sign drawn by chance gives, and about what random
    weights do. Interval: bootstrap over documents. parts: effective (the least share of neurons that holds `mass` of the
    squares), nonzero (share of entries that are not exactly 0). Raises BadInput for a subject without an MLP whose
    nonlinearity can be read, NotFinite.
    """
    before, after = layers(subject, "mlp_pre"), layers(subject, "mlp_post")
    found: dict[str, list[Tensor]] = {str(site): [] for site in after}
    documents = []
    for batch in passages:
        acts = read(subject, batch, [*before, *after])
        documents.append(batch.where[batch.text][:, 0])
        for into, out in zip(before, after, strict=True):
            found[str(out)].append(_measured(acts[into][batch.text], acts[out][batch.text], mass))
    where = torch.cat(documents)
    by_layer = {name: torch.cat(parts) for name, parts in found.items()}
    return [
        _score("activation_sparsity", torch.stack(list(by_layer.values())).mean(0), where, seed),
        *(_score(f"activation_sparsity:{name}", x, where, seed) for name, x in by_layer.items()),
    ]


def _measured(into: Float[Tensor, "n f"], out: Float[Tensor, "n f"], mass: float) -> Float[Tensor, "n 3"]:
    """Of each token: the shares open, effective and not zero."""
    held = out.double().square().sort(dim=1, descending=True).values.cumsum(1)
    enough = (held < mass * held[:, -1:]).sum(1) + 1
    shares = [(into > 0).double().mean(1), enough.double() / out.shape[1], (out != 0).double().mean(1)]
    return torch.stack(shares, 1)


def _score(name: str, found: Float[Tensor, "n 3"], documents: Tensor, seed: int) -> Score:
    sums, counts = by_document(found, documents)
    value, spread = mean_interval(sums[:, 0], counts, seed=seed)
    _, effective, nonzero = (sums.sum(0) / counts.sum()).tolist()
    parts = {"effective": effective, "nonzero": nonzero}
    return Score(name, "lazy_neurons@1", value, "share of neurons", "neither", len(counts), spread, 0.5, parts)
