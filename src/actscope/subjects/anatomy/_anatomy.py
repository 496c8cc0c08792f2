"""What a family's file says of its models, and the attention function in the open.

Letters: b batch, t tokens, s tokens attended to, h heads, g heads of keys and values, dh and dv their widths.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from actscope.core.site import LAYER_KINDS, Site
from actscope.subjects._taps import Tap

Attend = Callable[..., tuple[Tensor, Tensor | None]]
# (kind, value) -> the value that goes on
Visit = Callable[[str, Tensor], Tensor]


@dataclass(frozen=True)
class Images:
    """What a model of images takes: `channels` times `size` (height, width), cut into patches of `patch` (height, width).
    extra: tokens beside the patches. resizes: it takes other sizes too."""

    channels: int
    size: tuple[int, int]
    patch: tuple[int, int]
    extra: int = 1
    resizes: bool = False

    def tokens(self, shape: Sequence[int]) -> int:
        """Of one image in a batch of this shape."""
        return (shape[2] // self.patch[0]) * (shape[3] // self.patch[1]) + self.extra


@dataclass(frozen=True)
class Anatomy:
    """The sites of one model.

    taps: every site it has, in the order it is computed. missing: kinds of the table it lacks -> why. attention: path of
    each attention module -> its layer. attend: that module's own eager attention, calling `visit(kind, value)` for q_rot,
    k_rot, v (where no module gives it), attn_scores and attn_pattern as they arise. context: longest sequence, in tokens.
    windows: how many tokens back attention looks, itself included, None for all; where layers differ, by their type as the
    config names it. method: the attention modules' own method that `attend` stands in for, in families that do not ask
    transformers for the function.
    latent: the cache holds what keys and values are made from, so that these are made anew at every step.
    parallel: a block's MLP reads the stream as it comes in, so that what its attention gives reaches none of BESIDE_ATTENTION.

    classes: names of the transformers classes that this describes, that of the usual head first; none for the family's causal
    language model and the model below its head. causal: a token sees none after it. told: what the model's forward is told
    beside its ids; without "past_key_values" there is no cache, and without "position_ids" tokens stand where their slot is.
    first_position: the number the model has for position 0. images: set for a model that takes pixels in place of ids. start:
    set for a model with an encoder and a decoder, the id that the decoder begins with.
    """

    taps: Mapping[Site, Tap]
    missing: Mapping[str, str]
    attention: Mapping[str, int]
    attend: Attend
    context: int
    windows: int | Mapping[str, int | None] | None = None
    method: str = ""
    latent: bool = False
    parallel: bool = False
    classes: tuple[str, ...] = ()
    causal: bool = True
    told: tuple[str, ...] = ("attention_mask", "position_ids", "past_key_values", "use_cache")
    first_position: int = 0
    images: Images | None = None
    start: int | None = None

    def without(self, missing: Mapping[str, str]) -> "Anatomy":
        """The same with fewer kinds of sites, and why."""
        taps = {site: tap for site, tap in self.taps.items() if site.kind not in missing}
        return replace(self, taps=taps, missing={**self.missing, **missing})


BESIDE_ATTENTION = frozenset(
    (
        "resid_pre",
        "attn_norm_scale",
        "attn_in",
        "mlp_norm_scale",
        "mlp_in",
        "mlp_pre",
        "mlp_up",
        "mlp_post",
        "mlp_out",
        "mlp_add",
    )
)  # kinds of site in a block that its attention has no part in, where it is parallel
ONE_STACK = "it has one stack, so nothing is read across from another"
NO_MIXER = "attention, not a state space, joins its tokens"
ABSENT: Mapping[str, str] = {kind: ONE_STACK for kind in LAYER_KINDS if "cross" in kind} | dict.fromkeys(
    ("mixer_in", "mixer_norm_scale", "conv_in", "gate", "conv_out", "ssm_out", "mixer_out", "mixer_add"), NO_MIXER
)  # kinds that few families have


def fitted(anatomy: Anatomy, model: nn.Module) -> Anatomy:
    """The anatomy of a model with its head and all its stacks, made that of this very model, which may lack some: a model
    below its head has its modules one name higher up and no logits."""
    parts = dict(model.named_children())
    root = next(tap.info.module for site, tap in anatomy.taps.items() if site.kind == "embed").split(".")[0] + "."
    body = root[:-1] not in parts

    def path(given: str) -> str:
        return given.removeprefix(root) if body else given

    def there(given: str) -> bool:
        return path(given).split(".")[0] in parts if given else not body

    taps = {site: tap for site, tap in anatomy.taps.items() if there(tap.info.module)}
    kinds = {site.kind for site in taps}
    missing = {kind: why for kind, why in ABSENT.items() if kind not in kinds} | dict(anatomy.missing)
    for site, tap in anatomy.taps.items():
        if site.kind not in kinds:
            what = tap.info.module.removeprefix(root).split(".")[0] or "head"
            missing[site.kind] = f"it is a {type(model).__name__}, without {what}"
    decodes = anatomy.start is not None and any(site.stack == "decoder" for site in taps)
    return replace(
        anatomy,
        start=anatomy.start if decodes else None,
        causal=anatomy.causal and (decodes or anatomy.start is None),
        taps={site: replace(tap, info=replace(tap.info, module=path(tap.info.module))) for site, tap in taps.items()},
        missing=missing,
        attention={path(name): layer for name, layer in anatomy.attention.items() if there(name)},
    )


def attend(
    module: nn.Module,
    query: Float[Tensor, "b h t dh"],
    key: Float[Tensor, "b g s dh"],
    value: Float[Tensor, "b g s dv"],
    mask: Float[Tensor, "..."] | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    softcap: float | None = None,
    visit: Visit,
) -> tuple[Float[Tensor, "b t h dv"], Float[Tensor, "b h t s"]]:
    """Softmax attention step by step, in the order and precision of transformers' eager attention, so bitwise equal to it.

    g heads of keys and values serve h / g queries each. softcap: c tanh(scores / c) before the mask.
    """
    query, key, value = visit("q_rot", query), visit("k_rot", key), visit("v", value)
    if (shared := query.shape[1] // key.shape[1]) > 1:
        key, value = (x.repeat_interleave(shared, dim=1) for x in (key, value))
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling
    if softcap is not None:
        scores = (scores / softcap).tanh() * softcap
    if mask is not None:
        scores = scores + mask
    scores = visit("attn_scores", scores)
    pattern = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    pattern = visit("attn_pattern", pattern)
    weights = nn.functional.dropout(pattern, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), pattern
