"""What a direction does to the logits by the direct path alone: through the last norm and the unembedding, past all else.

Letters: f directions, d width.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput
from actscope.core.inputs import Inputs
from actscope.core.intervention import Replace
from actscope.core.site import Site
from actscope.core.subject import Subject

_FAR = 1e3  # how many times its length: the last norm then sees nothing else
_AT_ONCE = 512  # directions of one run


@torch.no_grad()
def lens(subject: Subject, directions: Float[Tensor, "f d"]) -> Float[Tensor, "f vocab"]:
    """What each direction alone adds to the logits, through the last norm, less the mean over tokens.

    A large multiple of the direction stands at the end of the last layer, so the norm sees nothing else; the logits of
    a zero there are taken away. Raises BadInput for a subject without a residual stream as wide as the directions and logits.
    """
    last = max((site for site in subject.sites if site.kind == "resid_post"), key=lambda site: site.layer or 0, default=None)
    if last is None or Site("logits") not in subject.sites or subject.sites[last].width != directions.shape[1]:
        raise BadInput(
            f"The lens looks from directions of width {directions.shape[1]} through the end of the residual stream to the "
            f"logits; {subject.name} has no such stream, or one of another width. `actscope sites MODEL` lists what it has."
        )
    centred = directions.detach().float().cpu()
    unit = torch.nn.functional.normalize(centred - centred.mean(1, keepdim=True), dim=1)
    found = []
    for some in unit.split(_AT_ONCE):
        value = torch.cat([torch.zeros(1, some.shape[1]), _FAR * some])[:, None]
        logits = subject.run(Inputs(ids=torch.zeros(len(value), 1, dtype=torch.long)), write=[Replace(last, value)]).logits
        assert logits is not None, "a run without reads computes logits"
        found.append((logits[1:, 0] - logits[:1, 0]).float().cpu())
    change = torch.cat(found)
    return change - change.mean(1, keepdim=True)


def kurtosis(change: Float[Tensor, "f vocab"]) -> Float[Tensor, " f"]:
    """How peaked: the fourth moment over the squared variance, 3 for a normal spread."""
    centred = change.double() - change.double().mean(1, keepdim=True)
    return (centred**4).mean(1) / (centred**2).mean(1).clamp(min=1e-30) ** 2


def logit_effects(dictionary: Dictionary, subject: Subject, latents: Sequence[int]) -> Float[Tensor, "f vocab"]:
    """`lens` of the atoms of some latents."""
    return lens(subject, dictionary.atoms[dictionary.write][torch.tensor(latents)])
