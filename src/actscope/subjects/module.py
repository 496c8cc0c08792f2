"""Any torch module as a subject, with a table of sites that the caller gives.

A module that takes ids reads the text that its ids are written as: "<17><3>" is 17, then 3. So whatever needs text, such as
capture and explanations, works on sequences of anything: items, events, states.

Letters: b batch, t tokens, d width.
"""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from actscope.core.errors import BadInput, UnknownSite, nearest
from actscope.core.inputs import Inputs
from actscope.core.intervention import Context
from actscope.core.site import Site, SiteInfo
from actscope.subjects._hooked import LOGITS, HookedSubject, Planned
from actscope.subjects._hooks import Pass, Place
from actscope.subjects._taps import Tap

__all__ = ["wrap"]

_PIECE = re.compile(r"<(\d+)>")


def wrap(
    module: nn.Module,
    *,
    sites: Mapping[str | Site, str] | Sequence[str],
    name: str = "",
    example: Tensor | None = None,
    context: int = sys.maxsize,
) -> "ModuleSubject":
    """Make a subject of any module that takes one tensor.

    sites: name -> "module.path:in" or "module.path:out" (a bare path means its output), such as {"layers.0.mlp_out": "net.1"};
    or a list of such places, whose sites are then named "module:<path>:<side>". example: an input; the module is run on it
    once to learn the width of each site and their order, which is needed where a site's module does not tell its width;
    what the module gives is then the site "logits". The module is put into eval mode and is otherwise left alone. It is told
    of no mask: where sequences of several lengths run together, zeros fill them on the right, which a causal module never sees.

    Raises UnknownSite for a path the module lacks or that is not run once, BadInput where a width cannot be known.
    """
    modules = dict(module.named_modules())
    table = (
        dict(sites)
        if isinstance(sites, Mapping)
        else {f"module:{_place(place)[0]}:{_place(place)[1]}": place for place in sites}
    )
    module.eval()
    places = {Site.parse(key): _place(place) for key, place in table.items()}
    for site, (path, _) in places.items():
        if path not in modules:
            raise UnknownSite(f"{site} is put at {path!r}, which {type(module).__name__} lacks{nearest(path, modules)}")
    if example is not None:
        places.setdefault(LOGITS, ("", "out"))
    shapes = _shapes_seen(module, places, example) if example is not None else _shapes_told(modules, places)
    taps = {site: Tap(SiteInfo(shape, places[site][0], places[site][1]), places[site][1]) for site, shape in shapes.items()}
    return ModuleSubject(module, name or type(module).__name__, taps, context)


class ModuleSubject(HookedSubject):
    """What `wrap` makes."""

    def __init__(self, model: nn.Module, name: str, taps: Mapping[Site, Tap], context: int = sys.maxsize):
        super().__init__(model, name, taps, {}, context)

    def prepare(self, raw: Any) -> Inputs:
        """A tensor as inputs: whole numbers as ids, [b c h w] as pixels, any other as embeds. Of texts only those that `pieces`
        writes are read, a row each: ["<17><3>"]. Raises BadInput for others."""
        if not isinstance(raw, Tensor):
            return self._spelt(raw)
        if not raw.is_floating_point():
            return Inputs(ids=raw)
        return Inputs(pixels=raw) if raw.dim() == 4 else Inputs(embeds=raw)

    def pieces(self, ids: Iterable[int] | Tensor) -> list[str]:
        """A wrapped module knows no text: "<17>" for id 17."""
        return [f"<{int(number)}>" for number in ids]

    def _spelt(self, raw: Any) -> Inputs:
        """The inverse of joining pieces."""
        texts = list(raw) if isinstance(raw, Sequence) and not isinstance(raw, str) else []
        if not texts or not all(isinstance(text, str) and text and not _PIECE.sub("", text) for text in texts):
            raise BadInput(
                f"{self.name} is a wrapped module and takes a tensor, or ids as '<17><3>'; {type(raw).__name__} was given. "
                "Encode it first."
            )
        found = [list(_PIECE.finditer(text)) for text in texts]
        shape = (len(texts), max(map(len, found)))
        ids, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.bool)
        offsets = torch.zeros(*shape, 2, dtype=torch.long)
        for row, words in enumerate(found):
            ids[row, : len(words)] = torch.tensor([int(word[1]) for word in words])
            offsets[row, : len(words)] = torch.tensor([word.span() for word in words])
            mask[row, : len(words)] = True
        return Inputs(ids=ids, mask=mask, offsets=offsets)

    def _inputs(self, raw: Tensor) -> Inputs:
        return self.prepare(raw)

    def _execute(
        self, inputs: Inputs, plan: Planned, needed: set[Place], wanted: tuple[Site, ...], grad: bool, cache: Any,
        decoding: bool = False,
    ) -> tuple[Tensor | None, Pass, Any]:  # fmt: skip
        if cache:
            raise BadInput(f"{self.name} is a wrapped module, of which no cache is known; run it without cache=.")
        given = [value for value in (inputs.ids, inputs.pixels, inputs.embeds) if value is not None]
        if len(given) != 1:
            raise BadInput("Expected Inputs with one of ids, pixels and embeds; `subject.prepare(tensor)` makes them.")
        x = given[0].to(self.device)

        def context(_stack: str) -> Context:
            tokens = x.shape[:2] if inputs.ids is not None or x.dim() == 3 else (x.shape[0], 1)
            where = torch.arange(tokens[1], device=x.device).expand(*tokens)
            mask = torch.ones(*tokens, dtype=torch.bool, device=x.device) if inputs.mask is None else inputs.mask.to(x.device)
            return Context({}, inputs, where if inputs.positions is None else inputs.positions.to(x.device), mask)

        ends = not wanted or LOGITS in wanted
        this = Pass(plan, needed, context=context, grad=grad, stops=bool(needed) and not ends)
        if grad and _bare(x, self.model):
            x = x.detach().requires_grad_(True)
        output = self._forward(this, lambda: self.model(x))
        return (_tensor(output) if ends else None), this, None


def _bare(x: Tensor, model: nn.Module) -> bool:
    """Whether neither the input nor any parameter would start a graph."""
    return x.is_floating_point() and not x.requires_grad and not any(p.requires_grad for p in model.parameters())


def _tensor(output: Any) -> Tensor:
    """The tensor a module's output is, holds first, or calls logits."""
    found = getattr(output, "logits", output)
    if isinstance(found, tuple | list) and found:
        found = found[0]
    if not isinstance(found, Tensor):
        raise BadInput(
            f"The module gives a {type(output).__name__}; expected a tensor, a tuple that starts with one, or .logits."
        )
    return found


def _place(text: str) -> tuple[str, Any]:
    path, _, side = text.removeprefix("module:").partition(":")
    if side not in ("", "in", "out"):
        raise BadInput(f"{text!r} is no place in a module; expected 'module.path:in' or 'module.path:out'.")
    return path, side or "out"


def _shapes_told(modules: Mapping[str, nn.Module], places: Mapping[Site, tuple[str, str]]) -> dict[Site, tuple]:
    """Shapes from what the modules say of themselves, in the order given."""
    shapes: dict[Site, tuple] = {}
    for site, (path, side) in places.items():
        module = modules[path]
        width = getattr(module, "in_features" if side == "in" else "out_features", None)
        if isinstance(module, nn.LayerNorm):
            width = module.normalized_shape[-1]
        if isinstance(module, nn.Embedding) and side == "out":
            width = module.embedding_dim
        if not isinstance(width, int):
            raise BadInput(
                f"{type(module).__name__} does not tell the width of {site} ({path}:{side}); pass example=<an input tensor>."
            )
        shapes[site] = ("b", "t", width)
    return shapes


def _shapes_seen(module: nn.Module, places: Mapping[Site, tuple[str, Any]], example: Tensor) -> dict[Site, tuple]:
    """Shapes from a run, in the order of that run. Only the last number is kept of a row's: rows are what varies."""
    taps = {site: Tap(SiteInfo(("b", "t"), path, side), side) for site, (path, side) in places.items()}
    subject = ModuleSubject(module, "example", taps)
    wanted = tuple(taps)
    with torch.no_grad():
        _, done, _ = subject._execute(
            subject.prepare(example),
            subject._plan(wanted, ()),
            {tap.place for tap in taps.values()},
            (*wanted, LOGITS),
            False,
            None,
        )
    return {
        site: ("b", *["t"] * (x.dim() - 2), x.shape[-1]) if x.dim() < 4 else ("b", *x.shape[1:])
        for site, x in done.seen.items()
    }
