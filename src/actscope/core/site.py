"""Names of the places in a model where a vector per token can be read or written.

    "layers.3.mlp_out"   "layers.3.z[5]" (head 5)   "encoder.layers.2.q"   "layers.3.expert_out[7]"   "embed"   "logits"

Other dialects are understood: `blocks.3.hook_mlp_out` (TransformerLens), `mlp_out.3` (interp-engine), a module's own
path (`gpt_neox.layers.3.mlp`, resolved by the subject that has it), and `module:<path>:in|out` for any module at all.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal

from actscope.core.errors import UnknownSite, nearest

LAYER_KINDS = (
    "resid_pre", "attn_in", "attn_norm_scale", "q", "k", "v", "q_rot", "k_rot", "attn_scores", "attn_pattern", "z",
    "attn_out", "attn_add", "resid_cross", "cross_in", "cross_norm_scale", "cross_q", "cross_k", "cross_v", "cross_scores",
    "cross_pattern", "cross_z", "cross_out", "cross_add", "mixer_in", "mixer_norm_scale", "conv_in", "gate", "conv_out",
    "ssm_out", "mixer_out", "mixer_add", "resid_mid", "mlp_in", "mlp_norm_scale", "mlp_pre", "mlp_up", "mlp_post", "mlp_out",
    "mlp_add", "router", "router_weight", "expert_out", "shared_out", "shared_gate", "resid_post",
)  # fmt: skip
WHOLE_KINDS = ("embed", "final_norm", "final_norm_scale", "logits")
HEAD_KINDS = ("q", "k", "v", "q_rot", "k_rot", "z", "cross_q", "cross_k", "cross_v", "cross_z")  # [b t h dh]: part i is head i
MAP_KINDS = ("attn_scores", "attn_pattern", "cross_scores", "cross_pattern")  # [b h t t]: part i is head i
EXPERT_KINDS = ("expert_out",)  # [b t e d]: part i is expert i
PART_AXIS = {**dict.fromkeys((*HEAD_KINDS, *EXPERT_KINDS), 2), **dict.fromkeys(MAP_KINDS, 1)}  # kind -> axis of its parts

_FORM = re.compile(r"(?:(?P<stack>encoder|decoder)\.)?(?:layers\.(?P<layer>\d+)\.)?(?P<kind>[a-z_]+)(?:\[(?P<part>\d+)\])?")
_SHORT = re.compile(r"(?P<kind>[a-z_]+)\.(?P<layer>\d+)(?:\[(?P<part>\d+)\])?")
_MODULE = re.compile(r"module:[^:]+:(in|out)")
_LENS = {
    "hook_resid_pre": "resid_pre", "hook_resid_mid": "resid_mid", "hook_resid_post": "resid_post",
    "hook_attn_out": "attn_add", "hook_mlp_out": "mlp_add", "attn.hook_q": "q", "attn.hook_k": "k", "attn.hook_v": "v",
    "attn.hook_rot_q": "q_rot", "attn.hook_rot_k": "k_rot", "attn.hook_attn_scores": "attn_scores",
    "attn.hook_pattern": "attn_pattern", "attn.hook_z": "z", "ln1.hook_normalized": "attn_in",
    "ln2.hook_normalized": "mlp_in", "ln1.hook_scale": "attn_norm_scale", "ln2.hook_scale": "mlp_norm_scale",
    "mlp.hook_pre": "mlp_pre", "mlp.hook_pre_linear": "mlp_up", "mlp.hook_post": "mlp_post", "mlp.hook_in": "mlp_in",
    "mlp.hook_out": "mlp_add",
}  # fmt: skip
_LENS_WHOLE = {"hook_embed": "embed", "ln_final.hook_normalized": "final_norm", "ln_final.hook_scale": "final_norm_scale"}


@dataclass(frozen=True)
class Site:
    """One place in one model. `kind` is a word of the table in docs/architecture.md, or "module:<path>:in|out"."""

    kind: str
    layer: int | None = None
    part: int | None = None  # head, or expert
    stack: str = ""  # "encoder" or "decoder" where a model has both

    def __str__(self) -> str:
        stack = f"{self.stack}." if self.stack else ""
        layer = "" if self.layer is None else f"layers.{self.layer}."
        return f"{stack}{layer}{self.kind}" + ("" if self.part is None else f"[{self.part}]")

    @property
    def whole(self) -> "Site":
        """The site of all heads (or experts) that this one is a part of."""
        return replace(self, part=None)

    @property
    def lens(self) -> str | None:
        """The TransformerLens name of this site, where it has one."""
        if self.layer is None:
            return next((name for name, kind in _LENS_WHOLE.items() if kind == self.kind), None)
        hook = next((name for name, kind in _LENS.items() if kind == self.kind), None)
        return None if hook is None else f"blocks.{self.layer}.{hook}"

    @staticmethod
    def parse(text: "str | Site") -> "Site":
        """The site a name stands for, in any dialect above. Raises UnknownSite, naming the nearest kinds."""
        if isinstance(text, Site):
            return text
        if _MODULE.fullmatch(text):
            return Site(text)
        if text.startswith("blocks."):
            _, layer, hook = (text.split(".", 2) + ["", ""])[:3]
            if hook in _LENS and layer.isdigit():
                return Site(_LENS[hook], int(layer))
        if text in _LENS_WHOLE:
            return Site(_LENS_WHOLE[text])
        found = _FORM.fullmatch(text) or _SHORT.fullmatch(text)
        if found:
            parts = found.groupdict()
            layer = None if parts["layer"] is None else int(parts["layer"])
            part = None if parts["part"] is None else int(parts["part"])
            if parts["kind"] in (WHOLE_KINDS if layer is None else LAYER_KINDS):
                return Site(parts["kind"], layer, part, parts.get("stack") or "")
        word = re.sub(r"\[\d+\]$", "", text.rsplit(".", 1)[-1])
        raise UnknownSite(
            f"{text!r} is not the name of a site{nearest(word, LAYER_KINDS + WHOLE_KINDS)} "
            'Expected something like "layers.3.mlp_out", "embed" or "module:<path>:out"; '
            "`actscope sites MODEL` lists what a model has."
        )


@dataclass(frozen=True)
class SitePattern:
    """A pattern over site names, such as "layers.*.resid_post"; a subject expands it into its own sites."""

    pattern: str

    def expand(self, sites: Iterable[Site]) -> list[Site]:
        """The sites whose names match, in the order given. Raises UnknownSite when none does."""
        sites = list(sites)
        found = [site for site in sites if fnmatchcase(str(site), self.pattern)]
        if not found:
            raise UnknownSite(f"No site matches {self.pattern!r}{nearest(self.pattern, map(str, sites))}")
        return found


@dataclass(frozen=True)
class SiteInfo:
    """What a subject says of a site it has.

    shape: letters and numbers, such as ("b", "t", 4, 48); "u" for the tokens of a second stack, the decoder's. module: the
    model's own path. side: the module's input or output, or "computed" where the model never holds it as one module's value.
    """

    shape: tuple[str | int, ...]
    module: str
    side: Literal["in", "out", "computed"]

    @property
    def width(self) -> int:
        """Numbers per token, heads flattened. 0 for attention maps, which have no row per token."""
        if len(self.shape) > 2 and isinstance(self.shape[-1], str):
            return 0
        width = 1
        for size in self.shape:
            width *= size if isinstance(size, int) else 1
        return width


def resolve(
    names: "str | Site | Iterable[str | Site]", sites: Mapping[Site, SiteInfo], missing: Mapping[str, str] | None = None
) -> list[Site]:
    """Sites of one subject from names, patterns and module paths. Raises UnknownSite, saying why or what is near.

    missing: kind -> why this subject, or some layer of it, lacks it (shown in the message).
    """
    given = [names] if isinstance(names, str | Site) else list(names)
    paths = {info.module: site for site, info in reversed(list(sites.items())) if info.side == "out"}
    found: list[Site] = []
    for name in given:
        if isinstance(name, str) and name in paths:
            found.append(paths[name])
        elif isinstance(name, str) and "*" in name:
            found.extend(SitePattern(name).expand(sites))
        else:
            found.append(_one(Site.parse(name), sites, missing or {}))
    return list(dict.fromkeys(found))


def _one(site: Site, sites: Mapping[Site, SiteInfo], missing: Mapping[str, str]) -> Site:
    if site.kind.startswith("module:"):
        return site
    info = sites.get(site.whole)
    if info is None:
        why = f": {missing[site.kind]}." if site.kind in missing else nearest(str(site), map(str, sites))
        raise UnknownSite(f"This subject has no site {site}{why} `actscope sites MODEL` lists what it has.")
    if site.part is not None:
        axis = PART_AXIS.get(site.kind)
        count = info.shape[axis] if axis is not None and axis < len(info.shape) else 0
        if not isinstance(count, int) or site.part >= count:
            raise UnknownSite(f"{site.whole} has {count} parts here; {site} asks for part {site.part} (counted from 0).")
    return site


@dataclass(frozen=True)
class Port:
    """A site of one of several subjects: "base:layers.3.mlp_in". With one subject the alias is ""."""

    site: Site
    subject: str = ""

    def __str__(self) -> str:
        return f"{self.subject}:{self.site}" if self.subject else str(self.site)

    @staticmethod
    def parse(text: "str | Site | Port") -> "Port":
        if isinstance(text, Port):
            return text
        if isinstance(text, str) and ":" in text and not text.startswith("module:"):
            subject, _, site = text.partition(":")
            return Port(Site.parse(site), subject)
        return Port(Site.parse(text))
