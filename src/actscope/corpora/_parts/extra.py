"""Packages that only some corpora need."""

import importlib
from typing import Any

from actscope.core.errors import MissingExtra


def package(name: str, of: str, what: str) -> Any:
    """The module `name` of the package `of`. Raises MissingExtra with what to type."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtra(f"To read {what}, the package {of} is needed: pip install 'actscope[data]' ({error}).") from error
