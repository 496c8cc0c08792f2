"""The laws of the house that import-linter cannot state."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "actscope"
FILES = sorted(PACKAGE.rglob("*.py"))
# Rooms of methods: every file that does not start with "_" is one method.
METHOD_ROOMS = [
    "adaptation",
    "compression",
    "dictionaries",
    "explainers",
    "explainers/judges",
    "explainers/sources",
    "interop",
    "reproductions",
    "scores/dictionary",
    "scores/explanation",
    "scores/subject",
    "tasks",
    "cli",
]
WRITERS = {"write_text", "write_bytes", "save_file", "savez", "tofile", "to_csv", "mkstemp", "NamedTemporaryFile"}


def name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_file_holds_one_idea_and_a_function_fits_a_screen(path: Path):
    lines = len(path.read_text().splitlines())
    assert lines <= 400, f"{lines} lines"
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef) and node.end_lineno:
            assert node.end_lineno - node.lineno < 60, f"{node.name} has {node.end_lineno - node.lineno + 1} lines"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_only_the_one_writer_writes_files(path: Path):
    if name(path) == "core/files.py":
        return
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        owner = getattr(node.func.value, "id", "") if isinstance(node.func, ast.Attribute) else ""
        if owner == "files":  # actscope.core.files
            continue
        assert called not in WRITERS, f"line {node.lineno}: {called}; write through actscope.core.files"
        if called == "open" and owner in ("", "io", "gzip", "Path") and len(node.args) + len(node.keywords) > 1:
            modes = [
                arg.value
                for arg in [*node.args[1:], *(k.value for k in node.keywords if k.arg == "mode")]
                if isinstance(arg, ast.Constant)
            ]
            assert not any(isinstance(mode, str) and set(mode) & set("wax+") for mode in modes), (
                f"line {node.lineno} opens for writing"
            )
        if name(path) == "interop/_parts/unpickle.py" and (owner, called) == ("torch", "load"):
            continue  # the one place that opens a foreign pickle: weights only, on request, in a child process
        assert (owner, called) not in {
            ("torch", "save"),
            ("torch", "load"),
            ("json", "dump"),
            ("np", "save"),
            ("numpy", "save"),
        }


@pytest.mark.parametrize("path", FILES, ids=name)
def test_no_error_is_swallowed_and_no_name_says_nothing(path: Path):
    assert "utils" not in path.parts and path.stem != "utils"
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ExceptHandler):
            assert not all(isinstance(line, ast.Pass | ast.Continue) for line in node.body), f"line {node.lineno}"
            assert node.type is not None, f"line {node.lineno}: a bare except"
        if isinstance(node, ast.ImportFrom):
            assert node.module != "__future__", "from __future__ import annotations blinds jaxtyping"


@pytest.mark.parametrize("path", [path for path in FILES if "cli" not in path.parts], ids=name)
def test_the_library_does_not_print(path: Path):
    calls = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
    assert not [call.lineno for call in calls if getattr(call.func, "id", "") == "print"]


@pytest.mark.parametrize("room", METHOD_ROOMS)
def test_a_method_file_offers_exactly_one_name(room: str):
    methods = [path for path in sorted((PACKAGE / room).glob("*.py")) if not path.stem.startswith("_")]
    assert methods, f"the room {room} is empty"
    for path in methods:
        public = [
            node for node in tree(path).body if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
        ]
        assert len(public) == 1 and len(ast.literal_eval(public[0].value)) == 1, f"{name(path)}: __all__ must hold one name"


@pytest.mark.parametrize("room", METHOD_ROOMS)
def test_method_files_of_a_room_do_not_know_each_other(room: str):
    dotted = "actscope." + room.replace("/", ".")
    siblings = {f"{dotted}.{path.stem}" for path in (PACKAGE / room).glob("*.py") if not path.stem.startswith("_")}
    for path in (PACKAGE / room).glob("*.py"):
        if not path.stem.startswith("_"):
            assert not imports(path) & (siblings - {f"{dotted}.{path.stem}"}), name(path)


def test_every_room_says_what_it_is():
    for path in PACKAGE.rglob("__init__.py"):
        assert ast.get_docstring(tree(path)), f"{name(path)} has no docstring"


def test_rooms_do_not_import_each_other_both_ways():
    edges: dict[str, set[str]] = defaultdict(set)
    for path in FILES:
        room = path.relative_to(PACKAGE).parts[0]
        for target in imports(path):
            other = target.split(".")[1] if target.startswith("actscope.") else ""
            if other and other != room and (PACKAGE / other).is_dir() and (PACKAGE / room).is_dir():
                edges[room].add(other)
    both = [(a, b) for a in edges for b in edges[a] if a in edges.get(b, set())]
    assert not both, both


def test_importing_the_package_is_light():
    code = "import actscope, sys; print([m for m in ('torch', 'transformers', 'numpy', 'rich') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_the_readme_prints_the_tree():
    """The README's tree lists exactly the rooms that exist."""
    block = re.search(r"```\n(src/actscope/.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert block, "README.md has no block that begins with src/actscope/"
    printed = set(re.findall(r"^  (\w+)/", block.group(1), re.M))
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert printed == rooms, f"only in README: {printed - rooms}; only on disk: {rooms - printed}"


def test_nothing_that_must_not_be_committed_is_tracked():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.fail("the tests run from a git checkout; git ls-files failed: " + listed.stderr)
    bad = [
        file
        for file in listed.stdout.split()
        if re.search(r"\.(pkl|pickle|pt|pth|bin|joblib|whl|so|pyc)$|(^|/)uv\.lock$", file)
    ]
    assert not bad, bad


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found
