"""The public list is small, true, and survives the import of every submodule."""

import importlib
import pkgutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import actscope as act

ROOT = Path(__file__).parents[1]


def test_the_list_is_short_and_sorted():
    assert len(act.__all__) <= 31
    assert list(act.__all__) == sorted(act.__all__)


@pytest.mark.parametrize("name", act.__all__)
def test_every_public_name_is_there_and_documented(name: str):
    thing = getattr(act, name)
    assert (thing.__doc__ or "").strip(), f"act.{name} has no docstring"


def test_a_name_that_is_not_there_is_said_so():
    with pytest.raises(AttributeError, match="has no 'train'"):
        act.train  # noqa: B018


def test_no_submodule_shadows_a_verb():
    """In a fresh process: import everything, then every verb is still a function."""
    code = (
        "import importlib, pkgutil, actscope as act\n"
        "for m in pkgutil.walk_packages(act.__path__, 'actscope.'):\n"
        "    if not m.name.endswith('__main__'): importlib.import_module(m.name)\n"
        "verbs = [n for n in act.__all__ if n[0].islower()]\n"
        "assert all(callable(getattr(act, n)) and not hasattr(getattr(act, n), '__path__') for n in verbs)\n"
        "print(len(verbs))"
    )
    out = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert int(out.stdout) >= 8


def test_every_submodule_imports():
    for module in pkgutil.walk_packages(act.__path__, "actscope."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def test_the_changelog_speaks_of_this_version():
    assert f"## {version('actscope')}" in (ROOT / "CHANGELOG.md").read_text()
