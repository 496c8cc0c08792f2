"""What a latent's direction alone does to a subject's logits.

Letters: f latents, o width written.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput
from actscope.core.inputs import Inputs
from actscope.core.intervention import Replace
from actscope.core.subject import Subject


def logit_effects(dictionary: Dictionary, subject: Subject, latents: Sequence[int]) -> Float[Tensor, "f vocab"]:
    """What each latent's direction alone adds to the logits, through the last norm, less the mean over tokens.

    A large multiple of the direction stands at the end of the last layer, so the norm sees nothing else; the logits of a zero
    there are taken away. Raises BadInput for a dictionary that does not write vectors of that width, and for a subject without
    logits.
    """
    last = max((site for site in subject.sites if site.kind == "resid_post"), key=lambda site: site.layer or 0, default=None)
    if last is None or "logits" in subject.missing:
        raise BadInput(f"{subject.name} has no logits behind a resid_post; expected a language model with its head.")
    width, written = int(subject.sites[last].shape[-1]), dictionary.writes[dictionary.write]
    if width != written:
        raise BadInput(f"The dictionary writes {dictionary.write} of width {written}; logits are read off vectors of {width}.")
    atoms = dictionary.atoms[dictionary.write][torch.tensor(latents)].detach().float().cpu()
    directions = torch.nn.functional.normalize(atoms - atoms.mean(1, keepdim=True), dim=1)
    value = torch.cat([torch.zeros(1, atoms.shape[1]), 1e3 * directions])[:, None]
    logits = subject.run(Inputs(ids=torch.zeros(len(value), 1, dtype=torch.long)), write=[Replace(last, value)]).logits
    assert logits is not None, "a run without reads computes logits"
    change = (logits[1:, 0] - logits[:1, 0]).float().cpu()
    return change - change.mean(1, keepdim=True)
