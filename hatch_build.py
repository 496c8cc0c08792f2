"""Builds src/actscope/ops/kernels/ where there is a C++ compiler; without one the package installs too, and is slower.

`pip install` runs this by itself. `python hatch_build.py` builds in place.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run by hand
    BuildHookInterface = object

OPS = Path(__file__).parent / "src" / "actscope" / "ops"
X86 = {"v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"], "v3": ["-march=x86-64-v3"], "v2": ["-march=x86-64-v2"]}
FLAGS = ["-std=c++17", "-O3", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-fvisibility=hidden"]


def build() -> Path | None:
    """The library, built unless it is there; None, with the reason on stderr, when it cannot be."""
    files = sorted((OPS / "kernels").iterdir())
    library = OPS / f"_kernels.{hashlib.sha256(b''.join(one.read_bytes() for one in files)).hexdigest()[:16]}.so"
    if library.exists():
        return library
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
    if compiler is None:
        return _without("no C++ compiler was found")
    sets = X86 if platform.machine() in ("x86_64", "AMD64") else {"native": []}
    with tempfile.TemporaryDirectory() as folder:
        made, commands, objects = Path(folder, "kernels.so"), [], []
        for name, flags in sets.items():
            for source in (one for one in files if one.suffix == ".cpp"):
                objects.append(str(Path(folder, f"{name}_{source.stem}.o")))
                commands.append([compiler, *FLAGS, f"-DISA={name}", *flags, "-c", str(source), "-o", objects[-1]])
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            done = list(pool.map(_run, commands))
        done.append(_run([compiler, "-shared", "-fopenmp", "-o", str(made), *objects]))
        if failed := [one for one in done if one.returncode]:
            return _without(f"{' '.join(failed[0].args)} failed:\n{failed[0].stderr}")
        for old in OPS.glob("_kernels.*.so"):
            old.unlink()
        part = library.with_suffix(".part")
        shutil.copyfile(made, part)
        part.replace(library)
    return library


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True)


def _without(why: str) -> None:
    sys.stderr.write(f"actscope: the kernels are left out, training will be slower: {why}\n")


class CustomBuildHook(BuildHookInterface):
    """What hatchling calls before it packs a wheel, editable ones too."""

    def initialize(self, version: str, build_data: dict) -> None:
        if self.target_name != "wheel" or (library := build()) is None:
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
        build_data["artifacts"].append(str(library.relative_to(Path(__file__).parent)))


if __name__ == "__main__":
    sys.exit(build() is None)
