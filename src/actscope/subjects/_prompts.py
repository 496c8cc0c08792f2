"""What is given to go on from, as a batch.

Letters: b batch, t tokens.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from actscope.core.errors import BadInput
from actscope.core.inputs import Inputs
from actscope.core.subject import Subject

_EXPECTED = "expected a text or several, lists of token ids, an id tensor [b t], or Inputs with ids"


def prompts(subject: Subject, given: Any) -> Inputs:
    """ids [b t] and, where rows differ in length, their mask. Texts and lists are padded on the left; a tensor and Inputs stay
    as they lie. An empty text begins with the model's first special token. Raises BadInput."""
    if isinstance(given, Inputs):
        return _checked(given)
    if isinstance(given, Tensor):
        return _checked(Inputs(ids=given))
    rows = [given] if isinstance(given, str) else list(given) if isinstance(given, Sequence) else None
    if not rows:
        raise BadInput(f"{'No prompt' if rows == [] else type(given).__name__} given; {_EXPECTED}.")
    if all(isinstance(row, str) for row in rows):
        return _left(_encoded(subject, rows))
    if all(_ids(row) for row in rows):
        return _left([_begun(subject, [int(number) for number in row], index) for index, row in enumerate(rows)])
    raise BadInput(f"A list of {', '.join(sorted({type(row).__name__ for row in rows}))} given; {_EXPECTED}.")


def _ids(row: Any) -> bool:
    if isinstance(row, Tensor):
        return row.dim() == 1 and not row.is_floating_point()
    return isinstance(row, Sequence) and not isinstance(row, str) and all(type(number) is int for number in row)


def _encoded(subject: Subject, texts: list[str]) -> list[list[int]]:
    written = [text for text in texts if text]
    inputs = subject.prepare(written) if written else Inputs(ids=torch.empty(0, 0))
    assert inputs.ids is not None, "text has ids"
    mask = torch.ones_like(inputs.ids, dtype=torch.bool) if inputs.mask is None else inputs.mask.bool()
    found = iter([ids[real].tolist() for ids, real in zip(inputs.ids, mask, strict=True)])
    return [_begun(subject, next(found) if text else [], index) for index, text in enumerate(texts)]


def _begun(subject: Subject, row: list[int], index: int) -> list[int]:
    if row:
        return row
    first = getattr(subject, "begins", None)
    if first is None:
        raise BadInput(f"Prompt {index} is empty, and {subject.name} has no token that begins a text; give at least one token.")
    return [first]


def _left(rows: list[list[int]]) -> Inputs:
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    for index, row in enumerate(rows):
        ids[index, longest - len(row) :] = torch.tensor(row)
        mask[index, longest - len(row) :] = True
    return Inputs(ids=ids, mask=None if bool(mask.all()) else mask)


def _checked(inputs: Inputs) -> Inputs:
    more = {name for name, value in inputs._asdict().items() if value is not None} - {"ids", "mask", "roles", "offsets"}
    if more or inputs.ids is None:
        raise BadInput(
            f"Inputs with {', '.join(sorted(more)) or 'no ids'} given to continue; expected ids, and a mask of padding."
        )
    ids, mask = inputs.ids, inputs.mask
    if ids.dim() != 2 or ids.is_floating_point() or not ids.numel():
        raise BadInput(f"Token ids of shape {tuple(ids.shape)}, {ids.dtype}; expected whole numbers [b t], at least one.")
    if mask is None:
        return Inputs(ids=ids)
    if mask.shape != ids.shape:
        raise BadInput(f"Inputs.mask has shape {tuple(mask.shape)}; expected {tuple(ids.shape)}, as the ids.")
    mask = mask.bool()
    first = mask.long().argmax(1, keepdim=True)
    place = torch.arange(ids.shape[1], device=mask.device)
    for index in torch.where(~(mask == ((place >= first) & (place < first + mask.sum(1, keepdim=True)))).all(1))[0].tolist():
        raise BadInput(
            f"The mask of prompt {index} has a hole; expected its tokens to stand together, padding before or after."
        )
    for index in torch.where(~mask.any(1))[0].tolist():
        raise BadInput(f"Prompt {index} is all padding; give at least one token.")
    return Inputs(ids=ids, mask=None if bool(mask.all()) else mask)
