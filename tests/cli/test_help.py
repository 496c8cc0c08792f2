"""`actscope VERB --help` says what every flag is for."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

import actscope.cli
from actscope.cli import main

VERBS = sorted(path.stem for path in Path(actscope.cli.__path__[0]).glob("*.py") if not path.stem.startswith("_"))


@pytest.mark.parametrize("verb", VERBS)
def test_every_flag_is_explained(verb, capsys):
    module = importlib.import_module(f"actscope.cli.{verb}")
    name = module.__all__[0]
    function = getattr(module, name)
    if not callable(function) or not inspect.isfunction(function):
        pytest.skip("a verb of several verbs")
    assert main([verb.rstrip("_"), "--help"]) == 0
    shown = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    documented = inspect.getdoc(function) or ""
    for parameter in inspect.signature(function).parameters:
        said = re.search(rf"^    {parameter}: (\S+(?: \S+)?)", documented, re.M)
        assert said, f"{verb}: --{parameter} has no line in the docstring"
        assert said[1].replace("`", "") in shown, f"{verb} --help does not say what --{parameter} is for"
