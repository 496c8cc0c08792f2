"""Every error a user can meet, and the exit code a command ends with.

    ActscopeError                    1
    |-- UsageError                   2   a flag or argument that cannot be
    |-- BadInput                     3   a file, text, model or setting that cannot be used
    |   |-- UnknownSite                  names the nearest sites
    |   |-- UnknownMethod                names the methods of the room
    |   |-- NotAModel                    a folder or id that holds no model we can load
    |   |-- EmptyCorpus                  nothing to read, or less than one context
    |   |-- WrongSubject                 an artifact made on another model
    |   |-- NotFinite                    NaN or infinity in weights, activations or losses
    |   `-- MissingExtra                 an optional package is not installed
    |-- Interrupted                  4   stopped on request, and saved
    |   |-- Lost                           a process of a shared run is gone; what was committed is intact
    |   `-- Unfinished                     with what was found until then
    |-- DiskFull                     5   no room; what was committed is intact
    `-- Corrupt                      6   a file is not what its manifest says

A message says what was given, what was expected, and what to type next.
"""

import difflib
from collections.abc import Iterable


class ActscopeError(Exception):
    """Any error of this package. `exit_code`: what a command ends with."""

    exit_code = 1


class UsageError(ActscopeError):
    """A flag or argument that cannot be."""

    exit_code = 2


class BadInput(ActscopeError):
    """A file, text, model or setting that cannot be used."""

    exit_code = 3


class UnknownSite(BadInput):
    """A site that is not there; names the nearest."""


class UnknownMethod(BadInput):
    """A method that is not there; names those of the room."""


class NotAModel(BadInput):
    """A folder or id that holds no model we can load."""


class EmptyCorpus(BadInput):
    """Nothing to read, or less than one context."""


class WrongSubject(BadInput):
    """An artifact made on another model."""


class NotFinite(BadInput):
    """NaN or infinity in weights, activations or losses."""


class MissingExtra(BadInput):
    """An optional package that is not installed."""


class Interrupted(ActscopeError):
    """Stopped on request, and saved."""

    exit_code = 4


class Lost(Interrupted):
    """A process of a run shared by several is gone; what was committed is intact."""


class Unfinished(Interrupted):
    """Stopped before the end; `found` holds what was found until then."""

    def __init__(self, message: str, found: Iterable[object] = ()):
        super().__init__(message)
        self.found = list(found)


class DiskFull(ActscopeError):
    """No room; what was committed is intact."""

    exit_code = 5


class Corrupt(ActscopeError):
    """A file is not what its manifest says."""

    exit_code = 6


def nearest(given: str, known: Iterable[str], n: int = 3) -> str:
    """ "; did you mean a, b or c?" for a name that was missed, or "." when nothing is near: the end of a sentence."""
    near = difflib.get_close_matches(given, list(known), n=n, cutoff=0.5)
    if not near:
        return "."
    listed = near[0] if len(near) == 1 else ", ".join(near[:-1]) + " or " + near[-1]
    return f"; did you mean {listed}?"
