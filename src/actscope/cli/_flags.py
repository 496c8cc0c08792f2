"""A method's own settings as flags: their names and types are those of its signature."""

import inspect
from collections.abc import Collection, Mapping
from typing import Any, get_args

from actscope.core.errors import UsageError, nearest

_PLAIN = (int, float, str, bool)


def settings(kind: Any, method: str, given: Mapping[str, str], left_out: Collection[str] = ()) -> dict[str, object]:
    """Settings from their flags. left_out: parameters that are no flags of the method. Raises UsageError."""
    takes = {name: value for name, value in inspect.signature(kind).parameters.items() if name not in left_out}
    found = {}
    for flag, text in given.items():
        name = flag.replace("-", "_")
        if name not in takes:
            flags = [f"--{known.replace('_', '-')}" for known in takes if known != "seed" and _can_be_typed(takes[known])]
            raise UsageError(
                f"{method} has no setting --{flag}{nearest('--' + flag, flags)} It takes: {', '.join(flags) or 'none'}."
            )
        found[name] = value(f"--{flag}", text, takes[name].annotation)
    return found


def value(flag: str, text: str, wanted: Any) -> object:
    """One flag's text as the type wanted, which may be a union. Raises UsageError."""
    kinds = get_args(wanted) or (wanted,)
    words = {"true": True, "yes": True, "false": False, "no": False}
    if bool in kinds and str(text).lower() in words:
        return words[str(text).lower()]
    if type(None) in kinds and str(text).lower() == "none":
        return None
    kind = next((kind for kind in (int, float, str) if kind in kinds), None) if bool not in kinds else bool
    if kind is None:
        raise UsageError(f"{flag} cannot be typed on a command line; set it from Python.")
    names = " or ".join(kind.__name__ for kind in kinds)
    try:
        if kind is bool:
            raise ValueError("neither true nor false")
        return kind(text)
    except ValueError as error:
        raise UsageError(f"{flag} {text} cannot be; expected {names}.") from error


def _can_be_typed(parameter: inspect.Parameter) -> bool:
    kinds = get_args(parameter.annotation) or (parameter.annotation,)
    return any(kind in _PLAIN for kind in kinds)
