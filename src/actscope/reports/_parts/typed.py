"""Frozen dataclasses from plain JSON and back, exactly: every field checked against its annotation.

Understood annotations: str, int, float, bool, object (any JSON), Literal, X | None, tuple[X, ...], tuple[X, Y],
Mapping[str, X] and dataclasses of these.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping

from actscope.core.errors import BadInput, nearest


def to_json(value: object) -> object:
    """A dataclass (or a tuple, mapping or scalar inside one) as plain JSON values: dicts, lists, scalars."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    return value


def from_json(kind: object, value: object, path: str) -> object:
    """`value` as an instance of the annotation `kind`. Raises BadInput naming the place, what is there, what was expected."""
    if kind is object:
        return value
    if dataclasses.is_dataclass(kind):
        return _record(typing.cast(type, kind), value, path)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        return from_json(next(arg for arg in args if arg is not type(None)), value, path)
    if origin is typing.Literal:
        if value not in args:
            raise _wrong(path, value, "one of " + ", ".join(map(repr, args)))
        return value
    if origin is tuple:
        return _tuple(args, value, path)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise _wrong(path, value, "an object")
        return {key: from_json(args[1], item, f"{path}.{key}") for key, item in value.items()}
    return _scalar(kind, value, path)


def _record(kind: type, value: object, path: str) -> object:
    if isinstance(value, kind):
        value = to_json(value)
    if not isinstance(value, Mapping):
        raise _wrong(path, value, f"an object with the fields of {kind.__name__}")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    for key in value:
        if key not in fields:
            raise BadInput(
                f"{path} has the field {key!r}, which is not one of a {kind.__name__}{nearest(str(key), fields) or '.'}"
            )
    for name, field in fields.items():
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if needed and name not in value:
            raise BadInput(f"{path} lacks the field {name!r}; expected every field of a {kind.__name__}: {', '.join(fields)}.")
    return kind(**{name: from_json(hints[name], item, f"{path}.{name}") for name, item in value.items()})


def _tuple(args: tuple, value: object, path: str) -> tuple:
    if not isinstance(value, tuple | list):
        raise _wrong(path, value, "a list")
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(from_json(args[0], item, f"{path}[{index}]") for index, item in enumerate(value))
    if len(value) != len(args):
        raise _wrong(path, value, f"a list of {len(args)}")
    return tuple(from_json(arg, item, f"{path}[{index}]") for index, (arg, item) in enumerate(zip(args, value, strict=True)))


def _scalar(kind: object, value: object, path: str) -> object:
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise _wrong(path, value, "a finite number (null where nothing was measured)")
        return float(value)
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind is bool and isinstance(value, bool):
        return value
    if kind is str and isinstance(value, str):
        return value
    names = {float: "a number", int: "a whole number", bool: "true or false", str: "a string"}
    raise _wrong(path, value, names.get(typing.cast(type, kind), str(kind)))


def _wrong(path: str, value: object, expected: str) -> BadInput:
    return BadInput(f"{path} is {value!r:.60}; expected {expected}.")
