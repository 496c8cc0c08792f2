"""A server on this machine that speaks the OpenAI protocol, answers as it is told, and misbehaves on command."""

import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Messages = list[dict[str, str]]


def data(messages: Messages) -> dict:
    """The JSON that a question shows."""
    return json.loads(re.search(r"DATA (\w+)\n(.*)\nEND OF DATA \1", messages[1]["content"], re.S)[2])


def label(text: str) -> str:
    return json.dumps({"explanation": text})


def sensible(messages: Messages) -> str:
    """A label, or for a judge's question one probability an item; a word to any other."""
    if "DATA " not in messages[1]["content"]:
        return "said"
    shown = data(messages)
    if "items" in shown:
        return json.dumps({"answers": [{"id": one["id"], "probability": 0.5} for one in shown["items"]]})
    return label("fires on verbs in the past tense")


@dataclass
class FakeServer:
    """`answer` gives what the model says. `faults`: one for each of the next requests, "" for none; `always`: for all after.

    Every request is in `seen` by the hash of its messages. `whole`: hashes of requests answered 200 with a body that was
    sent to its end. `cut`: of those whose body the client did not want to the end.
    """

    answer: Callable[[Messages], str] = sensible
    faults: list[str] = field(default_factory=list)
    always: str = ""
    retry_after: str = "0.05"
    usage: bool = True
    model: str | None = None
    hang: float = 1.0
    before: Callable[[int], None] = lambda number: None  # called with the number of the request before it is answered
    after: Callable[[int], None] = lambda number: None  # called with how many whole answers were sent
    seen: list[str] = field(default_factory=list)
    whole: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[dict] = field(default_factory=list)
    at_once: int = 0

    def __enter__(self) -> "FakeServer":
        self._turn, self._now = threading.Lock(), 0
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.fake = self
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/v1"


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    fake: FakeServer

    def handle_error(self, request, client_address) -> None:
        """A client that has gone is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        fake: FakeServer = self.server.fake
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        name = hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()
        with fake._turn:
            fake.seen.append(name)
            fake.bodies.append(body)
            fake.headers.append({key.lower(): value for key, value in self.headers.items()})
            fault = fake.faults.pop(0) if fake.faults else fake.always
            number = len(fake.seen)
            fake._now += 1
            fake.at_once = max(fake.at_once, fake._now)
        try:
            fake.before(number)
            self._answer(fake, body, fault, name)
        finally:
            with fake._turn:
                fake._now -= 1

    def _answer(self, fake: FakeServer, body: dict, fault: str, name: str) -> None:
        if fault.isdigit():  # a status
            return self._send(
                int(fault),
                b'{"error": {"message": "no \x1b[31m"}}',
                {"Retry-After": fake.retry_after} if fake.retry_after else {},
            )
        if fault == "no schema" and "response_format" in body:
            return self._send(400, b'{"error": "response_format is not supported"}')
        if fault == "redirect":
            return self._send(307, b"", {"Location": "http://169.254.169.254/latest/meta-data"})
        if fault == "hang":
            threading.Event().wait(fake.hang)
            return self._reset()
        text = fake.answer(body["messages"]) if fault not in TEXTS else TEXTS[fault]
        said = self._said(fake, body, text)
        if fault == "refusal field":
            said["choices"][0]["message"] = {"role": "assistant", "content": None, "refusal": "I will not."}
        if fault == "cut short":
            said["choices"][0]["finish_reason"] = "length"
        whole = json.dumps(said).encode()
        if fault == "reset":
            self._head(200, len(whole))
            self.wfile.write(whole[: len(whole) // 2])
            self.wfile.flush()
            return self._reset()
        if fault == "drip":
            self._head(200, len(whole))
            for byte in whole:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                threading.Event().wait(0.02)
            return None
        if fault == "gzip":
            return self._send(200, whole, {"Content-Encoding": "gzip"}, name)
        if fault == "truncated":
            whole = whole[: len(whole) // 2]
        if fault == "wrong shape":
            whole = json.dumps({"choices": [{"text": text}]}).encode()
        if fault == "deep":
            whole = b"[" * 100_000
        if fault == "10 MB":
            whole = json.dumps(said | {"padding": "x" * 10_000_000}).encode()
        self._send(200, whole, {}, name)

    def _said(self, fake: FakeServer, body: dict, text: str) -> dict:
        message = {"role": "assistant", "content": text}
        usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
        return {
            "id": "1", "object": "chat.completion", "model": fake.model or body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], **({"usage": usage} if fake.usage else {}),
        }  # fmt: skip

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None, name: str = "") -> None:
        """name: counted as whole (or, where it is long, as cut) before the client can have it; taken back if it has not."""
        fake: FakeServer = self.server.fake
        counted = fake.cut if len(body) > 2_000_000 else fake.whole
        with fake._turn:
            counted += [name] if name else []
            sent = len(fake.whole)
        try:
            self._head(status, len(body), headers)
            self.wfile.write(body)
            self.wfile.flush()
        except OSError:
            if counted is fake.whole and name:
                fake.whole.remove(name)
            raise
        if name:
            fake.after(sent)

    def _head(self, status: int, length: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", "Content-Length": str(length), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()

    def _reset(self) -> None:
        """Drop the connection at once, without a word."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


TEXTS = {
    "empty": "",
    "refusal": "I'm sorry, but I can't help with that request.",
    "refusal in form": label("I cannot determine what this neuron does."),
    "no pattern": label("There is no clear pattern that this latent follows."),
    "nothing": label("none"),
    "french": label("se déclenche sur les jours de la semaine et les mois"),
    "russian": label("срабатывает на днях недели"),
    "chinese": label("在星期几的词语上激活"),
    "think": "<think>The user wants a label. Days, perhaps?",
    "think in form": label("<think>days?</think> days of the week"),
    "reasoning": label("Okay, let me look at the texts: they all have days in them"),
    "essay": label("fires on days of the week " * 40),
    "two sentences": label("Fires on days of the week. It also fires on the names of months."),
    "prose": "This latent fires on the days of the week.",
    "two objects": label("fires on days of the week") + label("fires on months"),
    "twice": '{"explanation": "fires on days", "explanation": "fires on months"}',
    "other field": json.dumps({"label": "fires on days of the week"}),
    "more fields": json.dumps({"explanation": "fires on days of the week", "confidence": 1}),
    "number": json.dumps({"explanation": 7}),
    "list": json.dumps({"explanation": ["fires on days of the week"]}),
    "null": json.dumps({"explanation": None}),
    "nan": '{"explanation": NaN}',
    "html": label("fires on <script>alert(1)</script> in pages of the web"),
    "markdown": label("**Label**: days of the week"),
    "link": label("fires on words like those at https://example.org/label"),
    "control": label("fires on days\x1b[31m of the week"),
    "bidi": label("fires on days \u202eof the week"),
    "lines": label("fires on days\nof the week"),
    "garbage": label("xkcd qwrtz bvnm zxcv pqrst"),
    "stuck": label("fires on the the the the the the"),
    "marks": label("!!! ??? ... ,,, ;;; days"),
    "parrot": label("the most specific account that fits the texts under fires"),
    "one word": label("Monday"),
    "replacement": label("fires on \ufffd\ufffd days of the week"),
}
