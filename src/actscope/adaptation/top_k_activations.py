"""Training with only the largest activations of each MLP. Li et al. 2022, "The Lazy Neuron Phenomenon: On Emergence of
Activation Sparsity in Transformers" (arXiv:2210.06313): the Top-k Transformer.

1. A transformer's MLP gives W2 a(W1 x), with a ReLU. Of each token's map a(W1 x), keep the k largest entries and put 0 in place
   of the others, in every layer.
2. Train so from the start. The gradient flows through the entries that were kept.
3. The same thresholding stands when the model is used.

Letters: f neurons of a layer, of which k are kept.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actscope.adaptation._parts.tuning import Tuning
from actscope.core.change import Change
from actscope.core.errors import BadInput
from actscope.core.intervention import Largest
from actscope.core.progress import Progress, quiet
from actscope.core.site import Site
from actscope.core.subject import Subject
from actscope.scores._parts.passages import layers
from actscope.training.fit import fit
from actscope.training.plan import Plan

__all__ = ["top_k_activations"]


def top_k_activations(
    subject: Subject,
    batches: Any,
    plan: Plan,
    *,
    k: int | None,
    sites: Sequence[str | Site] | None = None,
    out: Path | str | None = None,
    progress: Progress = quiet,
) -> Change:
    """A subject's weights trained with the k largest activations of each MLP, and the thresholding, as a Change
    (Li et al. 2022, arXiv:2210.06313).

    subject: the untrained model, for a run from the start; a trained one is fine-tuned. It stays as it is. batches: a source
    for the training loop that gives pairs (ids or pixels, targets): the class of each input, or the token to come next at each
    token, -100 where none counts. k: None trains all the same without thresholding, which is the paper's baseline. sites:
    None: mlp_post of all layers. out: a folder for checkpoints, from which the same call goes on.
    Raises BadInput for a k that is not from 1 to the least width of the sites, a subject without them or without a module to
    train; whatever `fit` raises.
    """
    chosen = layers(subject, "mlp_post") if sites is None else [Site.parse(str(site)) for site in sites]
    least = min(subject.sites[site].width for site in chosen)
    if k is not None and not 1 <= k <= least:
        raise BadInput(f"k={k}; expected from 1 to {least} activations of {', '.join(map(str, chosen))}, or None for all.")
    standing = () if k is None else tuple(Largest(site, k) for site in chosen)
    tuning = fit(
        Tuning(subject, {"k": k, "sites": list(map(str, chosen))}, standing), batches, plan, out=out, progress=progress
    )
    return tuning.change(f"top_k_activations k={k}" if k else "trained")
