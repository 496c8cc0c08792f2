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
    |-- DiskFull                     5   no room; what was committed is intact
    `-- Corrupt                      6   a file is not what its manifest says

A message says what was given, what was expected, and what to type next.
"""

import difflib
from collections.abc import Iterable


class ActscopeError(Exception):
    exit_code = 1


class UsageError(ActscopeError):
    exit_code = 2


class BadInput(ActscopeError):
    exit_code = 3


class UnknownSite(BadInput):
    pass


class UnknownMethod(BadInput):
    pass


class NotAModel(BadInput):
    pass


class EmptyCorpus(BadInput):
    pass


class WrongSubject(BadInput):
    pass


class NotFinite(BadInput):
    pass


class MissingExtra(BadInput):
    pass


class Interrupted(ActscopeError):
    exit_code = 4


class DiskFull(ActscopeError):
    exit_code = 5


class Corrupt(ActscopeError):
    exit_code = 6


def nearest(given: str, known: Iterable[str], n: int = 3) -> str:
    """ "; did you mean a, b or c?" for a name that was missed, or "." when nothing is near: the end of a sentence."""
    near = difflib.get_close_matches(given, list(known), n=n, cutoff=0.5)
    if not near:
        return "."
    listed = near[0] if len(near) == 1 else ", ".join(near[:-1]) + " or " + near[-1]
    return f"; did you mean {listed}?"
