"""The anatomy of a causal language model that has no file of its own, found by what its modules compute.

The model is run once on random tokens. Nothing is told from names: a module is the product of queries because what it gives at
position 0, where rotary positions turn nothing, is what attention gets there; the last product of attention because it is given
what attention gave; a norm because the numbers of LayerNorm or RMSNorm come out; what is added to the stream because the stream
after a layer is the sum. Every layer must come out alike. Whoever uses it then proves it (`subjects/verify.py`).

Letters: b batch, t tokens, h heads, g heads of keys and values, dh their width, d width, f inner width of the MLP.
"""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from actscope.core.errors import NotAModel
from actscope.subjects.anatomy._anatomy import Anatomy
from actscope.subjects.anatomy._decoder import Columns, Names, Norm, Sizes, decoder, windows
from actscope.subjects.anatomy._trace import Attended, Call, Trace, traced

CLOSE = 1e-4  # of two tensors, relative: which is which; how exactly is shown afterwards
_FUNCTIONS: tuple[Callable[[Tensor], Tensor], ...] = (
    functional.silu, functional.gelu, lambda x: functional.gelu(x, approximate="tanh"), functional.relu,
    lambda x: functional.relu(x).square(), lambda x: x * torch.sigmoid(1.702 * x), torch.tanh, functional.mish,
)  # fmt: skip
_EPS = ("eps", "variance_epsilon", "norm_eps", "layer_norm_eps", "layer_norm_epsilon", "rms_norm_eps", "layernorm_epsilon")


@dataclass(frozen=True)
class _Found:
    """What one layer says: the names of its parts, whether positions turn its queries, and how its norms divide."""

    names: Names
    rotary: bool
    parallel: bool
    norms: frozenset[Norm]
    inner: int


def structured(model: Any) -> Anatomy:
    """The anatomy of a model of transformers, from one run of it. Raises NotAModel saying what of it could not be found."""
    ids = torch.randint(0, model.config.vocab_size, (2, 7), generator=torch.Generator().manual_seed(0))
    trace = traced(model, ids.to(next(model.parameters()).device))
    prefix, count = _layers(model, trace)
    found = [_layer(_Layer(model, trace, f"{prefix}.{number}")) for number in range(count)]
    alike = {replace(one, rotary=False) for one in found}
    if len(alike) > 1:
        raise NotAModel("its layers differ in their parts, so they cannot be described as one")
    base, _, layers = prefix.rpartition(".")
    first = next(iter(alike))
    embed, final, head, norm = _ends(model, trace, f"{prefix}.{count - 1}", base)
    norms = first.norms | {norm}
    if len(norms) != 1:
        raise NotAModel(f"its norms differ from each other: {', '.join(map(str, norms)) or 'none was understood'}")
    names = replace(first.names, base=base, layers=layers, embed=embed, final=final)
    query, key = (getattr(trace.attended[f"{prefix}.0.{names.attention}"], name) for name in ("query", "key"))
    sizes = Sizes(
        count, trace.calls[f"{prefix}.0"].given.shape[-1], query.shape[1], key.shape[1], query.shape[3], first.inner,
        model.config.vocab_size, getattr(model.config, "max_position_embeddings", None) or sys.maxsize,
    )  # fmt: skip
    made = decoder(
        sizes, names, norm, rotary=any(one.rotary for one in found), parallel=first.parallel,
        head=(head, ("b", "t", sizes.vocabulary)), windows=_windows(model.config),
    )  # fmt: skip
    return replace(made, parallel=False)  # what its attention modules give beside their output is not known: none is left out


def _windows(config: Any) -> Any:
    if getattr(config, "layer_types", None):
        return windows(config)
    on = getattr(config, "use_sliding_window", True)
    return getattr(config, "sliding_window", None) if on else None


def _layers(model: Any, trace: Trace) -> tuple[str, int]:
    """(path, length) of the list of layers: the innermost list that holds every attention, one in each of its modules."""
    for path, module in reversed(list(model.named_modules())):
        if not isinstance(module, nn.ModuleList):
            continue
        held = [sum(one.startswith(f"{path}.{number}.") for one in trace.attended) for number in range(len(module))]
        if held and set(held) == {1} and sum(held) == len(trace.attended):
            if not all(f"{path}.{number}" in trace.calls for number in range(len(module))):
                raise NotAModel(f"its layers {path} do not take and give tensors")
            return path, len(module)
    raise NotAModel("no list of layers with one attention in each was found")


@dataclass(frozen=True)
class _Layer:
    """One layer's part of a trace. `leaves`: its modules without modules inside, by path below the layer, as they ended."""

    model: Any
    trace: Trace
    path: str

    @property
    def whole(self) -> Call:
        return self.trace.calls[self.path]

    @property
    def leaves(self) -> dict[str, Call]:
        inside = {path: call for path, call in self.trace.calls.items() if path.startswith(f"{self.path}.")}
        leaf = {path for path in inside if not any(True for _ in self.model.get_submodule(path).children())}
        return {path.removeprefix(f"{self.path}."): call for path, call in inside.items() if path in leaf}

    @property
    def attention(self) -> tuple[str, Attended]:
        path, found = next((path, one) for path, one in self.trace.attended.items() if path.startswith(f"{self.path}."))
        return path.removeprefix(f"{self.path}."), found

    def module(self, name: str) -> nn.Module:
        return self.model.get_submodule(f"{self.path}.{name}")

    def product(self, name: str) -> bool:
        """Whether a module multiplies by a matrix."""
        weight = getattr(self.module(name), "weight", None)
        return isinstance(weight, Tensor) and weight.dim() == 2


def _layer(layer: _Layer) -> _Found:
    """What a layer is made of. Raises NotAModel naming the part that is not found."""
    where, attended = layer.attention
    leaves, stream = layer.leaves, layer.whole.given
    z = attended.out.flatten(2)
    out = _needed(
        (name for name, call in leaves.items() if layer.product(name) and _same(call.given, z)), "last product of attention"
    )
    after = {name: call for name, call in leaves.items() if call.ended >= leaves[out].ended}
    attn_add, mlp_add = _added(stream, layer.whole.out, after)
    products = [name for name in leaves if layer.product(name) and not name.startswith(f"{where}.") and name != out]
    down = _needed(
        (name for name in reversed(products) if leaves[name].ended <= leaves[mlp_add].ended), "last product of the MLP"
    )
    inner = leaves[down].given.shape[-1]
    gate, up, gate_up, columns = _mlp(leaves, [name for name in products if name != down], leaves[down].given)
    queries, rotary, attn_in = _queries(layer, attended)
    mlp_in = leaves[gate_up or up].given
    attn_norm, mlp_norm = (_made(leaves, x, stream) for x in (attn_in, mlp_in))
    middle = leaves[mlp_norm].given if mlp_norm else mlp_in
    added = stream + _like(leaves[attn_add].out, stream)
    parallel = _same(middle, stream)
    if not parallel and not _same(middle, added):
        raise NotAModel("what its MLP reads is neither the stream that comes in nor the stream after attention")
    mlp = _common([name for name in (gate_up, gate, up, down) if name])
    if not mlp_norm and not mlp:
        raise NotAModel("its MLP is no module of its own and has no norm before it, so its input cannot be read")
    names = replace(
        queries, attention=where, attn_norm=attn_norm, out=out, attn_add=attn_add, mlp=mlp, mlp_norm=mlp_norm, gate=gate,
        up=up, gate_up=gate_up, gate_up_columns=columns, down=down, mlp_add=mlp_add,
    )  # fmt: skip
    norms = {_norm(layer.module(name), leaves[name], layer.model.config) for name in {attn_norm, mlp_norm} if name}
    return _Found(names, rotary, parallel, frozenset(norms), inner)


def _ends(model: Any, trace: Trace, last: str, base: str) -> tuple[str, str, str, Norm]:
    """(embedding, norm after the last layer, both below the base; the module that gives the logits; how that norm divides)."""
    paths = {module: path for path, module in model.named_modules()}
    embed, head = paths.get(model.get_input_embeddings()), paths.get(model.get_output_embeddings())
    if embed is None or head is None or not embed.startswith(f"{base}.") or head not in trace.calls:
        raise NotAModel("its embedding or its product for the logits is not where transformers says")
    final = next((path for path, call in trace.calls.items() if path != last and call.began > trace.calls[last].ended
                  and path.startswith(f"{base}.") and _same(call.out, trace.calls[head].given)), None)  # fmt: skip
    if final is None or not _same(trace.calls[final].given, trace.calls[last].out):
        raise NotAModel("no norm between the last layer and the product for the logits was found")
    assert trace.logits is not None
    plain = torch.equal(trace.logits, trace.calls[head].out)  # else the whole model does something to them
    norm = _norm(model.get_submodule(final), trace.calls[final], model.config)
    return embed.removeprefix(f"{base}."), final.removeprefix(f"{base}."), head if plain else "", norm


def _added(stream: Tensor, after: Tensor, leaves: dict[str, Call]) -> tuple[str, str]:
    """The last modules that give what attention and what the MLP add: together they are the difference the layer makes."""
    fits = {name: _like(call.out, stream) for name, call in leaves.items() if call.out.numel() == stream.numel()}
    names = list(fits)
    for second in reversed(names):
        for first in reversed(names[: names.index(second)]):
            if _same(stream + fits[first] + fits[second], after):
                return first, second
    raise NotAModel("no two of its modules give what attention and MLP add to the stream (a factor may stand between)")


def _mlp(
    leaves: dict[str, Call], products: list[str], post: Tensor
) -> tuple[str | None, str, str | None, tuple[tuple[int, ...], ...]]:
    """(gate, up, both in one, their columns): the products that a nonlinearity joins to what the last product is given."""
    inner = post.shape[-1]
    wide = [name for name in products if leaves[name].out.shape[:-1] == post.shape[:-1]]
    for up in (name for name in wide if leaves[name].out.shape[-1] == inner):
        if any(_same(function(leaves[up].out), post) for function in _FUNCTIONS):
            return None, up, None, ()
        for gate in (name for name in wide if leaves[name].out.shape[-1] == inner and name != up):
            if any(_same(function(leaves[gate].out) * leaves[up].out, post) for function in _FUNCTIONS):
                return gate, up, None, ()
    for both in (name for name in wide if leaves[name].out.shape[-1] == 2 * inner):
        numbers = tuple(range(2 * inner))
        for one, other in ((numbers[:inner], numbers[inner:]), (numbers[::2], numbers[1::2])):
            for gate, up in ((one, other), (other, one)):
                x = leaves[both].out
                if any(_same(function(x[..., list(gate)]) * x[..., list(up)], post) for function in _FUNCTIONS):
                    return None, both, both, (gate, up)
    raise NotAModel("its MLP is not one or two products joined by a usual nonlinearity (it may be a mixture of experts)")


def _queries(layer: _Layer, attended: Attended) -> tuple[Names, bool, Tensor]:
    """(names of what gives queries, keys and values, whether positions turn them, what their product is given)."""
    leaves = {name: call for name, call in layer.leaves.items() if call.ended < attended.at}
    wanted = {"q": attended.query, "k": attended.key, "v": attended.value}
    given = {kind: _giver(leaves, x) for kind, x in wanted.items()}
    rotary = not _same(attended.query, _heads(leaves, given["q"], attended.query))
    path, _, columns = given["q"]
    if columns:
        if {one[0] for one in given.values()} != {path} or not all(one[2] for one in given.values()):
            raise NotAModel("its queries, keys and values come from products of different kinds")
        order: Columns = tuple(given[kind][2] for kind in ("q", "k", "v"))
        return Names(qkv=path, qkv_columns=order), rotary, leaves[path].given
    forms = {kind: one[1] for kind, one in given.items()}
    product = _needed((name for name, call in leaves.items() if layer.product(name) and call.began < leaves[path].ended
                       and (name == path or _feeds(leaves, name, path))), "product of queries")  # fmt: skip
    names = Names(q=given["q"][0], k=given["k"][0], v=given["v"][0])
    if forms["v"] != "flat" or forms["q"] != forms["k"]:
        raise NotAModel("its queries, keys and values are laid out differently")
    if forms["q"] != "flat":
        names = replace(names, q_norm=given["q"][0], k_norm=given["k"][0], q_norm_on=forms["q"])
    return names, rotary, leaves[product].given


_Form = Literal["flat", "heads", "turned"]


def _giver(leaves: dict[str, Call], x: Tensor) -> tuple[str, _Form, tuple[int, ...]]:
    """(module, layout, columns) of the last module that gives, at position 0, what attention gets there."""
    start = x[:, :, 0]  # [b h dh]
    for name, call in reversed(list(leaves.items())):
        out = call.out
        for form, first in _firsts(out, x):
            if _same(first, start):
                return name, form, ()
        if out.dim() == 3 and out.shape[-1] > start[0].numel() and out.shape[:2] == (x.shape[0], x.shape[2]):
            columns = _columns(out[:, 0], start.flatten(1))
            if columns:
                return name, "flat", columns
    raise NotAModel("no module gives what its attention gets at position 0 as queries, keys and values")


def _firsts(out: Tensor, x: Tensor) -> Iterable[tuple[_Form, Tensor]]:
    """What a module gives at position 0, [b h dh], in every layout that its shape allows."""
    b, h, t, width = x.shape
    if out.shape == (b, t, h * width):
        yield "flat", out[:, 0].unflatten(-1, (h, width))
    if out.shape == (b, t, h, width):
        yield "heads", out[:, 0]
    if out.shape == (b, h, t, width):
        yield "turned", out[:, :, 0]


def _columns(out: Tensor, wanted: Tensor) -> tuple[int, ...]:
    """Where each number of `wanted` stands in the rows of `out`; () where one is not there."""
    apart = (out[0][None, :] - wanted[0][:, None]).abs() + (out[-1][None, :] - wanted[-1][:, None]).abs()
    nearest = apart.min(1)
    size = wanted.abs().mean().clamp(min=1e-30)
    return tuple(nearest.indices.tolist()) if bool((nearest.values < CLOSE * size).all()) else ()


def _heads(leaves: dict[str, Call], given: tuple[str, _Form, tuple[int, ...]], x: Tensor) -> Tensor:
    """What a module gives at every position, laid out as attention gets it."""
    name, form, columns = given
    out = leaves[name].out
    if form == "turned":
        return out
    flat = out[..., list(columns)] if columns else out
    return (flat if form == "heads" else flat.unflatten(-1, (x.shape[1], x.shape[3]))).transpose(1, 2)


def _feeds(leaves: dict[str, Call], product: str, norm: str) -> bool:
    """Whether what a norm of queries is given is what a product gives, whatever the layout."""
    one, other = leaves[product].out, leaves[norm].given
    return one.numel() == other.numel() and bool(torch.isclose(one.sum(), other.sum(), rtol=CLOSE)) and _sorted_same(one, other)


def _sorted_same(one: Tensor, other: Tensor) -> bool:
    return _same(one.flatten().sort().values, other.flatten().sort().values)


def _made(leaves: dict[str, Call], x: Tensor, stream: Tensor) -> str | None:
    """The module that gives x; None where x is nothing but a stream."""
    return next((name for name, call in leaves.items() if _same(call.out, x) and not _same(call.given, x)), None)


def _norm(module: nn.Module, call: Call, config: Any) -> Norm:
    """How a norm divides. Raises NotAModel where it is neither LayerNorm nor RMSNorm."""
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    said = [getattr(where, name, None) for where in (module, config) for name in _EPS]
    tried = list(dict.fromkeys(eps for eps in said if isinstance(eps, float))) or [1e-5, 1e-6]
    x, out = call.given.double(), call.out.double()
    for eps in tried:
        for centred in (False, True):
            for offset in (0.0, 1.0):
                y = x - x.mean(-1, keepdim=True) if centred else x
                y = y / (y.pow(2).mean(-1, keepdim=True) + eps).sqrt()
                y = y if weight is None else y * (weight.double() + offset)
                if _same(y if bias is None else y + bias.double(), out):
                    return Norm(eps, centred, offset if weight is not None else 0.0)
    raise NotAModel(f"a norm of it ({type(module).__name__}) is neither LayerNorm nor RMSNorm")


def _common(names: list[str]) -> str:
    """The module that holds all these, "" where none does."""
    parts = [name.split(".")[:-1] for name in names]
    shared = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return ".".join(shared)


def _needed(found: Iterable[str], what: str) -> str:
    name = next(iter(found), None)
    if name is None:
        raise NotAModel(f"its {what} was not found")
    return name


def _like(x: Tensor, stream: Tensor) -> Tensor:
    return x.reshape(stream.shape)


def _same(one: Tensor, other: Tensor) -> bool:
    """Equal to within CLOSE, relative to the size of the second."""
    if one.shape != other.shape:
        if one.numel() != other.numel() or one.shape[-1] != other.shape[-1]:
            return False
        one = one.reshape(other.shape)
    size = other.double().pow(2).mean().sqrt().clamp(min=1e-30)
    return bool((one.double() - other.double()).abs().max() <= CLOSE * size)
