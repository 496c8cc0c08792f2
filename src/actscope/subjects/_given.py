"""What a transformers model is given, from Inputs and from what its anatomy says it takes.

Letters: b batch, t tokens, u tokens of the decoder.
"""

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from actscope.core.errors import BadInput
from actscope.core.inputs import Inputs
from actscope.subjects._layout import Layout
from actscope.subjects.anatomy._anatomy import Anatomy, Images


def check(inputs: Inputs, anatomy: Anatomy, name: str) -> tuple[int, int]:
    """(b, t) of a batch. Raises BadInput for inputs that are not what this model takes."""
    for field in ("positions", "sees", "document"):
        if getattr(inputs, field) is not None and "position_ids" not in anatomy.told:
            raise BadInput(f"Inputs({field}=...) was given; in {name} tokens stand, and see each other, by their place alone.")
    if inputs.decoder is not None:
        if anatomy.start is None:
            raise BadInput(f"Inputs(decoder=...) was given; {name} has no second stack to read it.")
        check_ids(inputs.decoder)
    if anatomy.images is not None:
        return _check_pixels(inputs, anatomy.images, name)
    if inputs.pixels is not None:
        raise BadInput(f"Pixels were given; {name} takes token ids. `subject.prepare(texts)` makes them.")
    if (inputs.ids is None) == (inputs.embeds is None):
        raise BadInput("Expected Inputs with ids or with embeds, one of the two; `subject.prepare(texts)` makes ids from text.")
    if inputs.ids is not None:
        check_ids(inputs.ids)
    tensor = inputs.ids if inputs.ids is not None else inputs.embeds
    return tensor.shape[0], tensor.shape[1]  # type: ignore[union-attr]


def check_ids(ids: Tensor) -> None:
    """Raises BadInput for what is not whole numbers [b t]."""
    if ids.dim() != 2 or ids.is_floating_point() or not ids.numel():
        raise BadInput(f"Token ids of shape {tuple(ids.shape)}, {ids.dtype}; expected whole numbers [b t], at least one.")


def _check_pixels(inputs: Inputs, images: Images, name: str) -> tuple[int, int]:
    pixels = inputs.pixels
    if pixels is None or inputs.ids is not None or inputs.embeds is not None:
        raise BadInput(f"{name} takes images; expected Inputs(pixels=...) alone, of numbers [b c h w].")
    size = " x ".join(map(str, images.size))
    if pixels.dim() != 4 or not pixels.is_floating_point() or not pixels.numel() or pixels.shape[1] != images.channels:
        raise BadInput(
            f"Pixels of shape {tuple(pixels.shape)}, {pixels.dtype}; {name} takes numbers [b {images.channels} h w] of {size}."
        )
    if not images.resizes and tuple(pixels.shape[2:]) != images.size:
        raise BadInput(f"Images of {pixels.shape[2]} x {pixels.shape[3]} were given; {name} takes {size}. Resize them.")
    if inputs.mask is not None and not bool(inputs.mask.all()):
        raise BadInput(f"Inputs.mask leaves tokens of an image out; {name} sees all of them. Give no mask.")
    return pixels.shape[0], images.tokens(pixels.shape)


def prepared_images(raw: Any, images: Images, name: str) -> Inputs:
    """Inputs from a tensor [b c h w]. Raises BadInput for anything else."""
    if not isinstance(raw, Tensor):
        raise BadInput(f"{name} takes images, and {type(raw).__name__} was given; expected a tensor of numbers [b c h w].")
    shape = _check_pixels(Inputs(pixels=raw), images, name)
    return Inputs(pixels=raw, mask=torch.ones(shape, dtype=torch.bool))


def told(
    inputs: Inputs, anatomy: Anatomy, laid: Layout, tokens: tuple[int, int], attention: Any, past: Any, device: torch.device
) -> dict[str, Any]:
    """The arguments of the model's forward beside ids, embeds or pixels. attention: the mask as the model takes it."""
    positions = laid.told(tokens, device)
    if anatomy.first_position:
        positions = laid.now(tokens, device)[0] + anatomy.first_position
    every = {"attention_mask": attention, "position_ids": positions, "past_key_values": past, "use_cache": past is not None}
    given = {name: every[name] for name in anatomy.told}
    if anatomy.start is not None:
        given["decoder_input_ids"] = started(inputs, anatomy.start, tokens[0], device)
    return given


def started(inputs: Inputs, start: int, rows: int, device: torch.device) -> Int[Tensor, "b u"]:
    """What the decoder reads: the ids given, or its start token alone."""
    if inputs.decoder is None:
        return torch.full((rows, 1), start, device=device)
    if len(inputs.decoder) != rows:
        raise BadInput(f"Inputs.decoder has {len(inputs.decoder)} rows; expected {rows}, one for each row of ids.")
    return inputs.decoder
