"""One run of a model of transformers, with what went into and came out of every module.

Letters: b batch, t tokens, h heads, g heads of keys and values, d width.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor, nn

from actscope.core.errors import NotAModel
from actscope.subjects.anatomy._anatomy import attend

NAME = "actscope_traced"  # of our attention function inside transformers
_tracing = threading.local()


class Call(NamedTuple):
    """A module's run: its first tensor in and out, and when it began and ended among all events."""

    given: Tensor
    out: Tensor
    began: int
    ended: int


class Attended(NamedTuple):
    """What an attention module asked of the common function, and what that gave."""

    query: Tensor  # [b h t dh]
    key: Tensor  # [b g t dh]
    value: Tensor  # [b g t dh]
    out: Tensor  # [b t h dh]
    at: int


@dataclass
class Trace:
    """calls: of every module that ran once, in the order they ended. attended: by path of the attention module."""

    calls: dict[str, Call] = field(default_factory=dict)
    attended: dict[str, Attended] = field(default_factory=dict)
    logits: Tensor | None = None
    events: int = 0

    def event(self) -> int:
        self.events += 1
        return self.events


@torch.no_grad()
def traced(model: Any, ids: Int[Tensor, "b t"]) -> Trace:
    """Run a causal language model. Raises NotAModel where its attention is not transformers' common function."""
    trace, began = Trace(), {}
    paths = {module: path for path, module in model.named_modules()}
    twice: set[str] = set()

    def before(path: str) -> Any:
        def hook(_module: nn.Module, args: tuple, given: dict) -> None:
            x = next((value for value in (*args, *given.values()) if isinstance(value, Tensor)), None)
            twice.update([path] if path in began else [])
            began[path] = (None if x is None else x.clone(), trace.event())

        return hook

    def after(path: str) -> Any:
        def hook(_module: nn.Module, _args: tuple, output: Any) -> None:
            out = output[0] if isinstance(output, tuple | list) and output else output
            given, start = began[path]
            if isinstance(out, Tensor) and given is not None:
                trace.calls[path] = Call(given, out.clone(), start, trace.event())

        return hook

    handles = []
    for path, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(before(path), with_kwargs=True))
        handles.append(module.register_forward_hook(after(path)))
    try:
        with _attention(model, trace, paths):
            trace.logits = model(input_ids=ids, use_cache=False).logits
    finally:
        for handle in handles:
            handle.remove()
    trace.calls = {path: call for path, call in trace.calls.items() if path not in twice}
    if not trace.attended:
        raise NotAModel("its attention does not go through transformers' common attention function, so it cannot be read")
    return trace


@contextmanager
def _attention(model: Any, trace: Trace, paths: dict[nn.Module, str]) -> Iterator[None]:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    def seen(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **given: Any) -> Any:
        known = {name: value for name, value in given.items() if name in ("scaling", "softcap")}
        output = attend(module, query, key, value, mask, **known, visit=lambda _, x: x)
        trace = _tracing.trace
        q, k, v, out = (x.clone() for x in (query, key, value, output[0]))
        trace.attended[_tracing.paths[module]] = Attended(q, k, v, out, trace.event())
        return output

    AttentionInterface.register(NAME, seen)
    AttentionMaskInterface.register(NAME, eager_mask)
    original = model.config._attn_implementation
    _tracing.trace, _tracing.paths = trace, paths
    try:
        model.config._attn_implementation = NAME
        yield
    finally:
        model.config._attn_implementation = original
        del _tracing.trace, _tracing.paths
