"""One virtual environment for each package that actscope is measured against or exchanges files with.

    python benchmarks/peers/environments.py               # all of them, under .peers/ (or $ACTSCOPE_PEERS)
    python benchmarks/peers/environments.py sae-lens      # one

Each is pinned by benchmarks/peers/<name>.txt, a complete list, so that nothing is resolved anew: torch is installed first,
with what it needs, and the rest without dependencies, so that no package can bring another build of torch with it.
The lists leave torchvision out: the one that these packages ask for does not load beside a CPU build of torch, and with it
there `import transformers` fails. Standard library only.
"""

import argparse
import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PEERS = ("sae-lens", "eai-sparsify", "dictionary-learning", "circuit-tracer", "eai-delphi")


def folder() -> Path:
    """Where the environments stand."""
    return Path(os.environ.get("ACTSCOPE_PEERS") or HERE.parents[1] / ".peers")


def python_of(name: str) -> Path:
    """The interpreter of a peer's environment, whether or not it has been made."""
    return folder() / name / "bin" / "python"


def ready(name: str) -> bool:
    """Whether the environment stands and was made from the list as it is now."""
    stamp = folder() / name / "ready"
    return stamp.is_file() and stamp.read_text() == _digest(name)


def make(name: str) -> Path:
    """Make a peer's environment unless it stands already; returns its interpreter."""
    folder().mkdir(parents=True, exist_ok=True)
    with open(folder() / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another checkout may share the folder
        if not ready(name):
            pins = HERE / f"{name}.txt"
            torch = next(line for line in pins.read_text().splitlines() if line.startswith("torch=="))
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder() / name)], check=True)
            pip = [str(python_of(name)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, torch], check=True)
            subprocess.run([*pip, "--no-deps", "-r", str(pins)], check=True)
            (folder() / name / "ready").write_text(_digest(name))
    return python_of(name)


def _digest(name: str) -> str:
    return hashlib.sha256((HERE / f"{name}.txt").read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the peers' environments.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which, of {', '.join(PEERS)}; all when left out")
    for name in parser.parse_args().names or PEERS:
        if name not in PEERS:
            parser.error(f"{name!r} is no peer; expected some of {', '.join(PEERS)}")
        sys.stdout.write(f"{name}: {make(name)}\n")


if __name__ == "__main__":
    main()
