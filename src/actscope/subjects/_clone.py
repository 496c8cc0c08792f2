"""Changed copies of a module tree that share every untouched parameter, and hashes of what they hold."""

import copy
import dataclasses
import functools
import hashlib
import secrets
import types
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from actscope.core.change import Change, Delta
from actscope.core.errors import BadInput, NotFinite, nearest


def clone(module: nn.Module) -> nn.Module:
    """The same tree with its own modules, hooks and configuration; parameters and buffers are the very same tensors."""
    return _clone(module, {})


def _clone(module: nn.Module, made: dict[int, Any]) -> nn.Module:
    if id(module) in made:
        return made[id(module)]
    new = made[id(module)] = copy.copy(module)
    for name, value in list(new.__dict__.items()):
        if name in ("forward", "_old_forward"):  # put there by accelerate, for the module it was put on
            new.__dict__[name] = _rebound(value, module, new)
        elif isinstance(value, OrderedDict | dict):
            new.__dict__[name] = copy.copy(value)
        elif hasattr(value, "_attn_implementation"):  # a transformers config, shared by all modules of a model
            new.__dict__[name] = made.setdefault(id(value), copy.deepcopy(value))
    new._modules = {name: None if child is None else _clone(child, made) for name, child in module._modules.items()}
    return new


def _rebound(function: Any, module: nn.Module, new: nn.Module) -> Any:
    """A bound method, or a partial of a function, for another module."""
    if isinstance(function, functools.partial):
        args = [new if given is module else given for given in function.args]
        return functools.update_wrapper(functools.partial(function.func, *args, **function.keywords), function)
    return types.MethodType(function.__func__, new) if getattr(function, "__self__", None) is module else function


def apply_deltas(module: nn.Module, deltas: Mapping[str, Delta]) -> None:
    """Put changed parameters into a clone; every name of a tied parameter changes with it. Raises BadInput for a name that
    the model lacks or a value that does not fit, NotFinite for NaN and infinity."""
    named = dict(module.named_parameters(remove_duplicate=False))
    for name, delta in deltas.items():
        if name not in named:
            raise BadInput(f"This subject has no parameter {name!r}{nearest(name, named)} `subject.weights()` lists them.")
        old = named[name]
        fits = delta.value.shape == old.shape if delta.replaces else _broadcasts(delta.value, old)
        if not fits:
            raise BadInput(f"The change of {name} has shape {tuple(delta.value.shape)}; expected {tuple(old.shape)}.")
        with torch.no_grad():
            value = delta(old.detach())
        if not bool(value.isfinite().all()):
            raise NotFinite(f"The change puts NaN or infinity into {name}.")
        new = nn.Parameter(value.clone() if value is old else value, requires_grad=old.requires_grad)
        for other, parameter in named.items():
            if parameter is old:
                path, _, leaf = other.rpartition(".")
                module.get_submodule(path)._parameters[leaf] = new
                named[other] = new


def _broadcasts(value: Tensor, old: Tensor) -> bool:
    try:
        return torch.broadcast_shapes(value.shape, old.shape) == old.shape
    except RuntimeError:
        return False


def hash_weights(weights: Mapping[str, Tensor], more: str = "") -> str:
    """SHA-256 over names, types, shapes and bytes of tensors, and a text; in hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        _feed(digest, name)
        _feed(digest, weights[name])
    digest.update(more.encode())
    return digest.hexdigest()


def hash_change(before: str, change: Change) -> str:
    """The fingerprint of a subject with fingerprint `before` and a change made. A change that holds a bare function has no
    content to hash, so it gets a fingerprint of its own each time."""
    digest = hashlib.sha256(before.encode())
    _feed(digest, change.interventions)
    _feed(digest, dict(change.weights))
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    digest.update(type(value).__name__.encode() + b"\0")
    if isinstance(value, Tensor):
        plain = value.detach().cpu().contiguous()
        digest.update(f"{plain.dtype}{tuple(plain.shape)}".encode())
        digest.update(plain.flatten().view(torch.uint8).numpy())
    elif isinstance(value, nn.Module):
        _feed(digest, dict(value.state_dict()))
        _feed(digest, getattr(value, "settings", {}))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            _feed(digest, field.name)
            _feed(digest, getattr(value, field.name))
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            _feed(digest, key)
            _feed(digest, value[key])
    elif isinstance(value, tuple | list | frozenset | set):
        for item in value if isinstance(value, tuple | list) else sorted(value, key=str):
            _feed(digest, item)
    elif value is None or isinstance(value, bool | int | float | str | bytes | torch.dtype):
        digest.update(repr(value).encode() + b"\0")
    else:
        digest.update(secrets.token_bytes(32))
