"""Methods by name: the folder is the registry.

The methods of a room are its files that do not start with "_"; a file's `__all__` holds exactly one name, the method.
Packages outside add theirs through entry points of the group "actscope.<room>". Nothing is imported until it is asked for.
"""

import functools
import importlib
import pkgutil
from importlib.metadata import entry_points
from importlib.resources import files

from actscope.core.errors import ActscopeError, UnknownMethod, nearest


def names(room: str) -> list[str]:
    """The methods of a room ("dictionaries", "scores.dictionary"), sorted. Raises UnknownMethod for no such room."""
    return sorted({*_inside(room), *_outside(room)})


def find(room: str, name: str) -> object:
    """The method itself: a class or a function. Raises UnknownMethod, listing what the room has."""
    inside, outside = _inside(room), _outside(room)
    if name in inside and name in outside:
        raise ActscopeError(
            f"{name!r} of {room} is both built in and offered by {outside[name].value}; uninstall that package."
        )
    if name in outside:
        return outside[name].load()
    if name not in inside:
        raise UnknownMethod(f"{room} has no method {name!r}{nearest(name, names(room))} It has: {', '.join(names(room))}.")
    module = importlib.import_module(f"actscope.{room}.{name}")
    (public,) = module.__all__
    return getattr(module, public)


def name_of(room: str, thing: object) -> str:
    """The bare name a class or function of a room is saved under. Raises UnknownMethod when it is not of that room."""
    kind = thing if isinstance(thing, type) or callable(thing) and hasattr(thing, "__module__") else type(thing)
    module = getattr(kind, "__module__", "")
    prefix = f"actscope.{room}."
    if module.startswith(prefix):
        return module.removeprefix(prefix)
    for name, entry in _outside(room).items():
        if entry.load() is kind:
            return name
    raise UnknownMethod(f"{kind} is no method of {room}; give it a file there or an entry point of group actscope.{room}.")


def _inside(room: str) -> list[str]:
    folder = files("actscope").joinpath(*room.split("."))
    if not folder.is_dir():
        raise UnknownMethod(f"There is no room {room!r} in actscope.")
    found = pkgutil.iter_modules([str(folder)])
    return [module.name for module in found if not module.name.startswith("_") and not module.ispkg]


@functools.cache
def _outside(room: str) -> dict:
    """Read once a process: the scan opens the metadata of every installed package."""
    return {entry.name: entry for entry in entry_points(group=f"actscope.{room}")}
