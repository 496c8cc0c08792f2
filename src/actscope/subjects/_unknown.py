"""Models of families that have no file: their sites are found by structure, and refused unless they are shown to be right."""

from typing import Any

import torch

from actscope.core import methods
from actscope.core.errors import NotAModel
from actscope.core.subject import Subject
from actscope.subjects.anatomy._anatomy import Anatomy, fitted
from actscope.subjects.anatomy._structure import structured
from actscope.subjects.verify import verify


def found(model: Any) -> Anatomy:
    """The anatomy of a causal language model, by structure. Raises NotAModel saying what of it could not be found."""
    family = model.config.model_type
    if model.dtype != torch.float32:
        raise NotAModel(
            f"A model of family {family!r} in {str(model.dtype).removeprefix('torch.')} was given. This version has no "
            "file for the family, and sites found by structure are proven in float32: load it with dtype='float32'."
        )
    try:
        return fitted(structured(model), model)
    except NotAModel as error:
        raise _refused(family, str(error)) from error


def prove(subject: Subject, family: str) -> None:
    """Raises NotAModel unless every site of the first, the middle and the last layer is shown to be right; all layers are
    alike in structure, which is how they were found."""
    layers = sorted({site.layer for site in subject.order if site.layer is not None})
    wrong = [one for one in verify(subject, layers={layers[0], layers[len(layers) // 2]}) if not one.holds]
    if wrong:
        raise _refused(family, f"what was taken for {wrong[0].site} is not that: {wrong[0].why}")


def _refused(family: str, why: str) -> NotAModel:
    known = ", ".join(methods.names("subjects.anatomy"))
    return NotAModel(
        f"A model of family {family!r} was given. This version has no file for it, and its sites could not be found by "
        f"structure: {why}. Wrap it with a table of your own sites (`act.wrap(model, sites=...)`), or give a model of {known}."
    )
