"""A chat template is a program that comes with the model: it runs in a process of its own, with little memory and time.

    python -m actscope.subjects._rendering     # started by `render`: a line of JSON in, a line of JSON out

The template's language is sandboxed (transformers' own environment, which gives it no attributes and no modules), but a
sandbox bounds neither time nor memory. The process can be ended at any moment, opens no file and holds nothing of ours.
"""

import atexit
import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from actscope.core.errors import BadInput

SECONDS = 20.0  # of one dialogue
STARTING = 180.0  # of the process itself, on a machine that is busy
MEMORY = 2 << 30  # bytes of address space
LONGEST = 16 << 20  # characters that a dialogue may become


class Renderer:
    """The process, started when first asked and again after it was ended."""

    def __init__(self):
        self._child: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str] = queue.Queue()
        self._lock = threading.Lock()

    def __call__(self, template: str, messages: Sequence[Mapping[str, str]], special: Mapping[str, Any]) -> str:
        """What the template makes of a dialogue. Raises BadInput for one that fails, takes too long or makes too much."""
        request = json.dumps({"template": template, "messages": [dict(one) for one in messages], "special": dict(special)})
        with self._lock:
            if self._child is None or self._child.poll() is not None:
                self._start()
            answer = self._ask(request, SECONDS)
        if "error" in answer:
            raise BadInput(answer["error"])
        return answer["text"]

    def close(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()

    def _start(self) -> None:
        self.close()
        command = [sys.executable, "-m", "actscope.subjects._rendering"]
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8"
        )
        self._answers = queue.Queue()
        threading.Thread(target=_listen, args=(self._child.stdout, self._answers), daemon=True).start()
        self._ask("", STARTING)

    def _ask(self, request: str, seconds: float) -> dict[str, str]:
        assert self._child is not None and self._child.stdin is not None, "started before it is asked"
        try:
            if request:
                self._child.stdin.write(request + "\n")
                self._child.stdin.flush()
            line = self._answers.get(timeout=seconds)
        except queue.Empty:
            self.close()
            raise BadInput(f"it was not done after {seconds:.0f} seconds and was ended") from None
        except OSError:
            line = ""
        if not line:
            self.close()
            raise BadInput(f"its process ended: it took more than {MEMORY >> 30} GiB of memory, or could not start")
        return json.loads(line)


def _listen(pipe: Any, answers: queue.Queue[str]) -> None:
    """Every line of the process, then an empty one."""
    with contextlib.suppress(ValueError):  # closed under our hands
        for line in pipe:
            answers.put(line)
    answers.put("")


render = Renderer()
atexit.register(render.close)


def main() -> None:
    out, sys.stdout = sys.stdout, sys.stderr
    from transformers.utils.chat_template_utils import render_jinja_template

    _bounded()
    out.write("{}\n")
    out.flush()
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            text = render_jinja_template([asked["messages"]], chat_template=asked["template"], **asked["special"])[0][0]
            if len(text) > LONGEST:
                raise ValueError(f"it makes {len(text):,} characters of the dialogue, more than {LONGEST:,}")
            answer = {"text": text}
        except Exception as error:  # whatever the template's own language makes of it
            answer = {"error": (str(error).strip().split("\n")[0] or type(error).__name__)[:200]}
        out.write(json.dumps(answer) + "\n")
        out.flush()


def _bounded() -> None:
    """No more memory than MEMORY and no file to write, where the system can hold a process to that."""
    try:
        import resource
    except ImportError:  # a system without limits: the time is bounded all the same
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
